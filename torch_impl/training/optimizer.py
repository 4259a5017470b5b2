"""Which optimiser moves which parameter."""

import re

from numpy_ref.config import is_router
from torch_impl.training import adamw, muon

TORCH_EXTRA_ARGUMENTS = {"dtype", "orthogonal"}


def init_states(params, train_config):
    """The optimiser's state of each parameter before the first step: name -> {"step", "m", "v"} or {"momentum"}."""
    return {
        name: (muon if _takes_muon(name, param, train_config) else adamw).init_state(param)
        for name, param in params.items()
    }


def update(params, grads, states, lr, train_config, dtype=None, orthogonal=None):
    """One optimiser step, in place: Muon for the blocks' matrices if the config says so, AdamW for all the rest.

    Shapes: params and grads name -> (...), states as from ``init_states``. Returns (params, states), the same dicts.
    ``dtype``: in which format Muon orthogonalises; ``orthogonal``: how, where parameters are shards (see ``muon_``).
    """
    c = train_config
    matrices = {name: param for name, param in params.items() if _takes_muon(name, param, c)}
    rest = {name: param for name, param in params.items() if name not in matrices}
    muon.muon_(matrices, grads, states, lr, c.momentum, c.weight_decay, dtype, orthogonal)
    adamw.adamw_(rest, grads, states, lr, c.beta1, c.beta2, c.eps, c.weight_decay)
    return params, states


def _takes_muon(name, param, train_config):
    inner = param.ndim >= 2 and bool(re.fullmatch(r"blocks\..*\.weight", name))
    return train_config.optimizer == "muon" and inner and not is_router(name)
