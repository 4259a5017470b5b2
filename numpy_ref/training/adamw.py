"""AdamW: steps scaled by each weight's own gradient history, with decay kept apart."""

import numpy as np


def init_state(param):
    """State before the first step: no steps, both moments zero."""
    return {"step": 0, "m": np.zeros_like(param), "v": np.zeros_like(param)}


def adamw(param, grad, state, lr, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0):
    """One step of Adam with decoupled weight decay (arXiv:1711.05101, algorithm 2; moments: arXiv:1412.6980).

        p = p - lr weight_decay p
        m = beta1 m + (1 - beta1) g              v = beta2 v + (1 - beta2) g^2
        mhat = m / (1 - beta1^t)                 vhat = v / (1 - beta2^t)
        p = p - lr mhat / (sqrt(vhat) + eps)

    m and v begin at zero and would be too small at first; the division by 1 - beta^t mends that. The decay is not
    part of g: it would be divided by sqrt(v), and weights with large gradients would hardly decay.

    param, grad (...); state {"step": t, "m", "v"} -> new param, new state. Nothing is changed in place.
    """
    step = state["step"] + 1
    m = beta1 * state["m"] + (1.0 - beta1) * grad
    v = beta2 * state["v"] + (1.0 - beta2) * grad * grad
    mhat = m / (1.0 - beta1**step)
    vhat = v / (1.0 - beta2**step)
    param = param * (1.0 - lr * weight_decay) - lr * mhat / (np.sqrt(vhat) + eps)
    return param, {"step": step, "m": m, "v": v}


def decays(name, shape):
    """Whether a parameter is decayed: matrices are; norms and biases, which only scale and shift features, are not.
    Nor are the biases of experts, which are stacked."""
    return len(shape) >= 2 and not name.endswith(".bias")
