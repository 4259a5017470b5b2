"""Muon: momentum whose steps are made orthogonal, for the matrices inside the blocks."""

import math

import numpy as np

_COEFFICIENTS = 3.4445, -4.7750, 2.0315


def init_state(param):
    """State before the first step: no momentum."""
    return {"momentum": np.zeros_like(param)}


def muon(param, grad, state, lr, momentum=0.95, weight_decay=0.0):
    """One step of Muon (Keller Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024).

        B = mu B + (1 - mu) G                        momentum
        U = mu B + (1 - mu) G                        Nesterov's look ahead
        W = W (1 - lr weight_decay) - lr 0.2 sqrt(max(rows, columns)) orthogonalise(U)

    A gradient's large singular values drown the small ones; the orthogonal factor moves in all directions alike. Its
    entries have a root mean square of 1 / sqrt(max(rows, columns)); times that root and 0.2 the step is as large as
    AdamW's usually is (arXiv:2502.16982, section 2.2), so both share a learning rate.

    param, grad (..., rows, columns), every leading index a matrix of its own; state {"momentum"} -> both anew.
    """
    buffer = momentum * state["momentum"] + (1.0 - momentum) * grad
    update = orthogonalise(momentum * buffer + (1.0 - momentum) * grad)
    scale = 0.2 * math.sqrt(max(param.shape[-2:]))
    param = param * (1.0 - lr * weight_decay) - (lr * scale) * update
    return param, {"momentum": buffer}


def orthogonalise(matrix, steps=5, eps=1e-7):
    """Push all singular values towards one by Newton-Schulz steps: only matrix products, no decomposition.

        X = G / max(||G||, eps)                      Frobenius norm: no singular value above 1
        X = a X + (b A + c A^2) X,    A = X X^T      each singular value s becomes a s + b s^3 + c s^5

    The coefficients (3.4445, -4.7750, 2.0315) are Jordan's: they do not converge to 1 but lift small values fastest,
    and after five steps all but the tiniest lie between about 0.7 and 1.2, which serves as well. A tall matrix is
    transposed, so that A is the smaller of the two products.

    Shapes: (..., rows, columns) -> the same.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = np.swapaxes(matrix, -1, -2) if tall else matrix
    norm = np.sqrt(np.sum(x * x, axis=(-2, -1), keepdims=True))
    x = x / np.maximum(norm, eps)
    for _ in range(steps):
        product = x @ np.swapaxes(x, -1, -2)
        x = a * x + (b * product + c * (product @ product)) @ x
    return np.swapaxes(x, -1, -2) if tall else x


def matrices(name, array, params):
    """The matrices inside a parameter, which Muon makes orthogonal each for itself: a list of (..., rows, columns), views.

    "query_key_value" stacks the projections to queries, keys and values, which have nothing in common, and "gate_up"
    the two of a gated feed-forward network, or of each of a stack of them. Where query heads share keys (grouped queries) the first of the three is
    higher than the others: as high as its block's "output" weight is wide, which reads what those heads return.

    array: the parameter of that name, or its gradient or momentum; params: all of them, for their shapes.
    """
    if name.endswith("query_key_value.weight"):
        queries = params[name.replace("query_key_value", "output")].shape[1]
        return np.split(array, (queries, (queries + array.shape[0]) // 2))
    return np.split(array, 2, axis=-2) if name.endswith("gate_up.weight") else [array]
