"""Any byte model, by the kind in its config."""

import torch

from numpy_ref.errors import UserError
from torch_impl.patching.blt import blt
from torch_impl.patching.byte_stack import byte_transformer
from torch_impl.patching.hnet import hnet
from torch_impl.patching.megabyte import megabyte


def byte_model(tokens, params, config, starts=None):
    """(logits of the next byte, auxiliary loss, first bytes of patches). The loss is H-Net's ratio loss, else 0.

    Shapes: tokens (B, T), starts (B, T + 1) bool for the kind blt alone -> (B, T, V), (), (B, T) bool. UserError for
    texts beyond the context, and for borders that are missing or of no use.
    """
    if tokens.shape[1] > config.context:
        raise UserError(f"{tokens.shape[1]} bytes do not fit the context of {config.context}; give at most that many")
    if (starts is not None) != (config.kind == "blt"):
        raise UserError(f"the kind {config.kind} {'needs' if starts is None else 'has no use for'} borders of patches")
    if config.kind == "hnet":
        return hnet(tokens, params, config)
    arguments = (tokens, params, config) if starts is None else (tokens, params, config, starts)
    logits = {"bytes": byte_transformer, "blt": blt, "megabyte": megabyte}[config.kind](*arguments)
    if starts is None:
        every = config.patch if config.kind == "megabyte" else 1
        starts = (torch.arange(tokens.shape[1] + 1, device=tokens.device) % every == 0).expand(len(tokens), -1)
    return logits, logits.new_zeros(()), starts[:, :-1]
