"""A vector of what came before, for every place of a text; never of the place itself, and never of what follows."""

import math

import numpy as np

from numpy_ref.model.linear import linear
from numpy_ref.model.softmax import softmax


def past_mean(x, span):
    """The mean of the last ``span`` inputs before each.

        c_t = mean of x_s for max(0, t - span) <= s < t,    c_0 = 0

    Shapes: x (B, T, d) -> (B, T, d);  vjp: dy -> dx.  Backward: the sums the other way round.
    """
    visible = _visible(x.shape[1], span)
    number = np.maximum(np.sum(visible, axis=1, keepdims=True), 1).astype(x.real.dtype)
    visible = visible.astype(x.real.dtype)

    def vjp(dy):
        return visible.T @ (dy / number)

    return (visible @ x) / number, vjp


def past_attention(x, params, heads):
    """Each input asks those before it, no further away than there are distances.

        S_ts = q_t k_s / sqrt(d_h) + b_{t-s-1}    for 1 <= t - s <= n, else -inf        P = softmax(S)
        c = [P_1 V_1 ... P_H V_H] Wo^T,    c_0 = 0

    params: "query.weight" (d, d), "key_value.weight" (2d, d), "output.weight" (d, d), and "distance.weight" b (H, n), which
    says for each head how much the word just before counts, the one before that, ...

    Shapes: x (B, T, d) -> (B, T, d);  vjp: dy -> dx, grads.

    Backward, as of attention (`model/attention.py`); in addition every score of the same distance shares its b:

        db_n = sum over texts and all t - s - 1 = n of dS_ts
    """
    batch, length, width = x.shape
    query, query_vjp = linear(x, params["query.weight"])
    stacked, key_value_vjp = linear(x, params["key_value.weight"])
    query, key, value = (_split(part, heads) for part in (query, stacked[..., :width], stacked[..., width:]))
    bias = params["distance.weight"]
    visible, distance = _visible(length, bias.shape[1]), _distance(length, bias.shape[1])
    scale = 1.0 / math.sqrt(query.shape[-1])
    scores = (scale * query) @ np.swapaxes(key, -1, -2) + bias[:, distance]
    weights, softmax_vjp = softmax(np.where(visible, scores, -np.inf))
    c, output_vjp = linear(_joined(weights @ value), params["output.weight"])

    def vjp(dy):
        djoined, doutput, _ = output_vjp(dy)
        dheads = _split(djoined, heads)
        dscores = softmax_vjp(dheads @ np.swapaxes(value, -1, -2))
        dbias = np.zeros_like(bias.T)
        rows, columns = np.nonzero(visible)
        np.add.at(dbias, distance[rows, columns], np.sum(dscores, axis=0)[:, rows, columns].T)
        dkey = np.swapaxes(dscores, -1, -2) @ (scale * query)
        dvalue = np.swapaxes(weights, -1, -2) @ dheads
        dx, dquery, _ = query_vjp(_joined(scale * (dscores @ key)))
        dx_stacked, dkey_value, _ = key_value_vjp(np.concatenate([_joined(dkey), _joined(dvalue)], axis=-1))
        grads = {"query.weight": dquery, "key_value.weight": dkey_value, "output.weight": doutput}
        return dx + dx_stacked, grads | {"distance.weight": dbias.T}

    return c, vjp


def _distance(length, span):
    """t - s - 1, cut to what there is a number for."""
    place = np.arange(length)
    return np.clip(place[:, None] - place - 1, 0, span - 1)


def _visible(length, span):
    """Whether t sees s: bool (T, T)."""
    place = np.arange(length)
    ago = place[:, None] - place
    return (ago >= 1) & (ago <= span)


def _split(x, heads):
    """(B, T, H d_h) -> (B, H, T, d_h)."""
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _joined(x):
    """(B, H, T, d_h) -> (B, T, H d_h)."""
    return np.swapaxes(x, 1, 2).reshape(len(x), x.shape[2], -1)
