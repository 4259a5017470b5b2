"""Attention: every query takes a weighted mean of the values, weighted by how well their keys match it."""

import math

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.linear import linear
from numpy_ref.model.softmax import softmax


def scaled_dot_product_attention(query, key, value, mask=None, causal=False, scale=None):
    """Attention of queries over keys (arXiv:1706.03762, eq. 1).

        S = scale Q K^T        P = softmax(S), with S = -inf where a key is hidden        Y = P V

    scale: 1 / sqrt(d) unless given; for random vectors it keeps the deviation of the scores at one.
    mask: bool, True where a query may see a key, broadcastable to (..., Tq, Tk). causal: see ``causal_mask``; both
    together hide what either hides. A query that sees no key gives zeros, and no gradient.

    Shapes: query Q (..., Tq, d), key K (..., Tk, d), value V (..., Tk, dv) -> Y (..., Tq, dv).
    vjp: dY (..., Tq, dv) -> dquery, dkey, dvalue, shaped like the arguments.

    Backward. A product C = A B has dA = dC B^T and dB = A^T dC. From the end to the beginning:

        Y = P V           dP = dY V^T            dV = P^T dY
        P = softmax(S)    dS = P * (dP - rowsum(dP * P))
        S = (scale Q) K^T     dQ = scale dS K        dK = dS^T (scale Q)

    A hidden entry has P = 0, hence dS = 0: the mask needs no backward of its own.
    """
    # The scale goes on the queries: the smaller array, and in 16 bits the unscaled scores might overflow.
    scaled = query * _scale(query, scale)
    weights, softmax_vjp = softmax(_scores(scaled, key, mask, causal))
    y = weights @ value

    def vjp(dy):
        dvalue = _transposed(weights) @ dy
        dscores = softmax_vjp(dy @ _transposed(value))
        dquery = (dscores @ key) * _scale(query, scale)
        dkey = _transposed(dscores) @ scaled
        return dquery, dkey, dvalue

    return y, vjp


def attention_weights(query, key, mask=None, causal=False, scale=None):
    """The probabilities P of ``scaled_dot_product_attention``, for pictures.

    Shapes: query (..., Tq, d), key (..., Tk, d) -> (..., Tq, Tk). No vjp.
    """
    return softmax(_scores(query * _scale(query, scale), key, mask, causal))[0]


def multi_head_attention(x, params, heads, mask=None, causal=True):
    """Several attentions side by side, each on its own slice of the features (arXiv:1706.03762, section 3.2.2).

        [Q, K, V] = x W^T + b        Y_h = attention(Q_h, K_h, V_h)        y = [Y_1 ... Y_heads] O^T + c

    params: "query_key_value.weight" W (3d, d) and ".bias" b (3d,), whose rows are all queries, then all keys, then all
    values, and inside each head after head; "output.weight" O (d, d) and ".bias" c (d,). Biases may be absent.
    mask: bool, True where a query may see a key, broadcastable to (B, heads, T, T).

    Shapes: x (B, T, d) -> y (B, T, d);  vjp: dy (B, T, d) -> dx (B, T, d), dparams with the keys of params.

    Backward: the same path in reverse. Splitting into heads only moves values, so its backward moves gradients back.
    """
    projected, projection_vjp = linear(x, params["query_key_value.weight"], params.get("query_key_value.bias"))
    query, key, value = _split(projected, heads)
    attended, attention_vjp = scaled_dot_product_attention(query, key, value, mask, causal)
    y, output_vjp = linear(_joined(attended), params["output.weight"], params.get("output.bias"))

    def vjp(dy):
        grads = {}
        djoined, grads["output.weight"], grads["output.bias"] = output_vjp(dy)
        dattended = np.swapaxes(djoined.reshape(*x.shape[:2], heads, -1), 1, 2)
        dprojected = _unsplit(*attention_vjp(dattended))
        dx, grads["query_key_value.weight"], grads["query_key_value.bias"] = projection_vjp(dprojected)
        return dx, {name: grads[name] for name in params}

    return y, vjp


def causal_mask(queries, keys):
    """Which keys a query may see when none may see the future: bool (queries, keys), True = may.

    The last query stands at the last key, so query i sees the keys j <= i + keys - queries. That is what decoding with
    a cache needs: one query on n keys sees them all. With more queries than keys the first ones see nothing.
    """
    return np.tri(queries, keys, keys - queries, dtype=bool)


def padding_mask(lengths, keys):
    """Hides what fills a row up: lengths (B,) -> bool (B, 1, 1, keys), True for the first lengths[b] keys."""
    return (np.arange(keys) < lengths[:, None])[:, None, None, :]


def _scale(query, scale):
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale


def _transposed(matrix):
    return np.swapaxes(matrix, -1, -2)


def _scores(scaled, key, mask, causal):
    """Scores (..., Tq, Tk), -inf where a query may not look."""
    if mask is not None and mask.dtype != bool:
        raise UserError(f"the attention mask has dtype {mask.dtype}; it must be bool, True where a query may see a key")
    scores = scaled @ _transposed(key)
    if causal:
        visible = causal_mask(*scores.shape[-2:])
        mask = visible if mask is None else visible & mask
    return scores if mask is None else np.where(mask, scores, -np.inf)


def _split(projected, heads):
    """(B, T, 3d) -> query, key, value, each (B, heads, T, d / heads): views, nothing is copied."""
    batch, length, features = projected.shape
    parts = projected.reshape(batch, length, 3, heads, features // (3 * heads))
    return tuple(np.transpose(parts, (2, 0, 3, 1, 4)))


def _unsplit(dquery, dkey, dvalue):
    """The transpose of ``_split``: three (B, heads, T, d / heads) -> (B, T, 3d)."""
    parts = np.stack([np.swapaxes(part, 1, 2) for part in (dquery, dkey, dvalue)], axis=2)
    return parts.reshape(*parts.shape[:2], -1)


def _joined(attended):
    """(B, heads, T, d / heads) -> (B, T, d): the heads of a position side by side."""
    swapped = np.swapaxes(attended, 1, 2)
    return swapped.reshape(*swapped.shape[:2], -1)
