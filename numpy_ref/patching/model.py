"""One door to all byte models."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.patching.blt import blt
from numpy_ref.patching.byte_stack import byte_transformer
from numpy_ref.patching.hnet import hnet
from numpy_ref.patching.megabyte import megabyte


def byte_model(tokens, params, config, starts=None):
    """Logits of the next byte, an auxiliary loss and the patches, by the model that ``config.kind`` names.

    starts: bool (B, T + 1), where patches begin; for the kind blt alone. The auxiliary loss is H-Net's ratio loss, 0 for
    the others. The patches are bool, True at the first byte of each.

    Shapes: tokens (B, T) -> ((B, T, V), (), (B, T));  vjp: dlogits, dauxiliary -> grads with the keys of params.
    Raises UserError for more bytes than the context, and for patches that are missing or not asked for.
    """
    if tokens.shape[1] > config.context:
        raise UserError(f"{tokens.shape[1]} bytes are more than the context of {config.context}; give at most that many")
    if (starts is not None) != (config.kind == "blt"):
        raise UserError(f"a model of kind {config.kind} {'needs' if starts is None else 'takes no'} borders of patches")
    if config.kind == "hnet":
        return hnet(tokens, params, config)
    arguments = (tokens, params, config) if starts is None else (tokens, params, config, starts)
    logits, vjp = {"bytes": byte_transformer, "blt": blt, "megabyte": megabyte}[config.kind](*arguments)
    if starts is None:
        every = config.patch if config.kind == "megabyte" else 1
        starts = np.broadcast_to(np.arange(tokens.shape[1] + 1) % every == 0, (len(tokens), tokens.shape[1] + 1))
    return (logits, np.zeros((), logits.dtype), starts[:, :-1].copy()), lambda dlogits, _: vjp(dlogits)
