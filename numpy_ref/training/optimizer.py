"""Which parameter takes which optimiser, and one step of all of them."""

import numpy as np

from numpy_ref.config import is_router
from numpy_ref.training import adamw, muon


def init_states(params, train_config):
    """State of every parameter before the first step: name -> {"step", "m", "v"} of AdamW or {"momentum"} of Muon."""
    return {
        name: (muon if _takes_muon(name, param.shape, train_config) else adamw).init_state(param)
        for name, param in params.items()
    }


def update(params, grads, states, lr, train_config):
    """One step of every parameter -> new params, new states.

    With ``optimizer="muon"`` the matrices of the blocks take Muon, stacked experts each for itself; embeddings, the output
    head, norms, biases and routers, whose rows or entries have nothing to do with each other, take AdamW. lr: the learning rate of this step.
    """
    new_params, new_states = {}, {}
    for name, param in params.items():
        step = _muon if _takes_muon(name, param.shape, train_config) else _adamw
        new_params[name], new_states[name] = step(name, params, grads[name], states[name], lr, train_config)
    return new_params, new_states


def _takes_muon(name, shape, train_config):
    inner_matrix = name.startswith("blocks.") and name.endswith(".weight") and len(shape) >= 2 and not is_router(name)
    return train_config.optimizer == "muon" and inner_matrix


def _adamw(name, params, grad, state, lr, config):
    param = params[name]
    decay = config.weight_decay if adamw.decays(name, param.shape) else 0.0
    return adamw.adamw(param, grad, state, lr, config.beta1, config.beta2, config.eps, decay)


def _muon(name, params, grad, state, lr, config):
    """Muon on each matrix of the parameter; its momentum is kept in the parameter's own shape."""
    parts = [muon.matrices(name, array, params) for array in (params[name], grad, state["momentum"])]
    moved, momentum = [], []
    for matrix, matrix_grad, buffer in zip(*parts, strict=True):
        matrix, state = muon.muon(matrix, matrix_grad, {"momentum": buffer}, lr, config.momentum, config.weight_decay)
        moved.append(matrix)
        momentum.append(state["momentum"])
    return np.concatenate(moved, axis=-2), {"momentum": np.concatenate(momentum, axis=-2)}
