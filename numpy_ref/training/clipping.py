"""Gradient clipping: one bad batch must not throw the weights far away."""

import numpy as np


def global_norm(grads):
    """Length of all gradients as one long vector: sqrt(sum of all squares). dict of arrays -> () of their dtype."""
    return np.sqrt(sum(np.sum(grad * grad) for grad in grads.values()))


def clip_by_global_norm(grads, max_norm):
    """Shorten the gradients to ``max_norm`` if they are longer; their direction stays (arXiv:1211.5063, algorithm 1).

        g = g min(1, max_norm / norm)

    A norm that is NaN makes every gradient NaN: a broken step is to be seen, not hidden.

    grads: dict of arrays -> new dict, norm before clipping ().
    """
    norm = global_norm(grads)
    with np.errstate(divide="ignore"):  # norm 0: the factor is min(1, inf)
        factor = np.minimum(1.0, max_norm / norm)
    return {name: grad * factor for name, grad in grads.items()}, norm
