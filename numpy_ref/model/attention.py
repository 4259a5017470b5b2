"""Attention: every query takes a weighted mean of the values, weighted by how well their keys match it."""

import math

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.activations import softcap as bend
from numpy_ref.model.masks import alibi_bias, document_positions, document_runs, visible_keys
from numpy_ref.model.softmax import softmax


def scaled_dot_product_attention(query, key, value, mask=None, causal=False, scale=None, softcap=0.0, bias=None):
    """Attention of queries over keys (arXiv:1706.03762, eq. 1).

        S = scale Q K^T        P = softmax(S), with S = -inf where a key is hidden        Y = P V

    scale: 1 / sqrt(d) unless given; for random vectors it keeps the deviation of the scores at one.
    softcap: c > 0 bends the scores, S = c tanh(S / c), before anything else happens to them (arXiv:2408.00118).
    bias: constants added to the scores, broadcastable to (..., H, Tq, Tk); no gradient (ALiBi).
    mask: bool, True where a query may see a key, broadcastable to (..., H, Tq, Tk). causal: see ``causal_mask``; both
    together hide what either hides. A query that sees no key gives zeros, and no gradient.

    Grouped queries (arXiv:2305.13245): with fewer key than query heads, query head h reads key head h // (H / G).

    Shapes: query Q (..., H, Tq, d), key K (..., G, Tk, d), value V (..., G, Tk, dv) with H a multiple of G
    -> Y (..., H, Tq, dv).  vjp: dY (..., H, Tq, dv) -> dquery, dkey, dvalue, shaped like the arguments.

    Backward. A product C = A B has dA = dC B^T and dB = A^T dC. From the end to the beginning:

        Y = P V           dP = dY V^T            dV = P^T dY
        P = softmax(S)    dS = P * (dP - rowsum(dP * P))
        S = c tanh(R / c)     dR = (1 - tanh(R / c)^2) * dS
        R = (scale Q) K^T     dQ = scale dR K        dK = dR^T (scale Q)

    A hidden entry has P = 0, hence dS = 0: the mask needs no backward of its own. A key head that several query heads
    read collects the gradients of all of them.
    """
    # The scale goes on the queries: the smaller array, and in 16 bits the unscaled scores might overflow.
    scaled = query * _scale(query, scale)
    keys, values = _for_each_query_head(key, query), _for_each_query_head(value, query)
    scores, scores_vjp = _scores(scaled, keys, mask, causal, softcap, bias)
    weights, softmax_vjp = softmax(scores)
    y = weights @ values

    def vjp(dy):
        dvalues = _transposed(weights) @ dy
        dproduct = scores_vjp(softmax_vjp(dy @ _transposed(values)))
        dquery = (dproduct @ keys) * _scale(query, scale)
        dkeys = _transposed(dproduct) @ scaled
        return dquery, _summed_over_groups(dkeys, key), _summed_over_groups(dvalues, value)

    return y, vjp


def attention_weights(query, key, mask=None, causal=False, scale=None, softcap=0.0, bias=None):
    """The probabilities P of ``scaled_dot_product_attention``, for pictures.

    Shapes: query (..., H, Tq, d), key (..., G, Tk, d) -> (..., H, Tq, Tk). No vjp.
    """
    scaled = query * _scale(query, scale)
    return softmax(_scores(scaled, _for_each_query_head(key, query), mask, causal, softcap, bias)[0])[0]


def sliding_window_attention(
    query, key, value, window, sinks=0, scale=None, softcap=0.0, slopes=None, documents=None
):
    """Causal attention that looks ``window`` tokens back (arXiv:2310.06825, section 2).

    Position t sees exactly the keys t - window + 1 ... t, and the first ``sinks`` keys, which trained models use as a
    place to look at when nothing fits (arXiv:2309.17453). Through n layers a token still reaches n (window - 1) back.

    documents: None, or ids (B, T) of texts that share a row, see ``document_positions``: each sees itself alone, its
    sinks are its own first tokens, and padding sees nothing and gives zeros. slopes: (H,) of ALiBi.

    Shapes: query (B, H, T, d), key (B, G, T, d), value (B, G, T, dv) -> (B, H, T, dv); vjp as above.

    This is the definition: all scores, most of them hidden. The cost of a fast version is linear in T, since only a
    band of T * window scores counts.
    """
    if documents is None:
        documents = np.zeros((1, query.shape[-2]), np.int64)
    positions, documents = document_positions(documents), document_runs(documents)
    mask = visible_keys(positions, positions, window, sinks, documents, documents)
    bias = None if slopes is None else alibi_bias(positions, positions, slopes)
    return scaled_dot_product_attention(query, key, value, mask, False, scale, softcap, bias)


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


def _for_each_query_head(shared, query):
    """Keys or values (..., G, Tk, d), each head as often as query heads read it: (..., H, Tk, d)."""
    if shared.ndim < 3 or shared.shape[-3] == query.shape[-3]:
        return shared
    return np.repeat(shared, query.shape[-3] // shared.shape[-3], axis=-3)


def _summed_over_groups(gradient, shared):
    """The transpose of ``_for_each_query_head``: (..., H, Tk, d) -> (..., G, Tk, d), shaped like ``shared``."""
    if gradient.shape == shared.shape:
        return gradient
    groups = gradient.reshape(*shared.shape[:-2], -1, *shared.shape[-2:])
    return np.sum(groups, axis=-3)


def _scores(scaled, key, mask, causal, softcap, bias):
    """Scores (..., Tq, Tk), -inf where a query may not look; vjp: dscores -> gradient of scaled @ key^T."""
    if mask is not None and mask.dtype != bool:
        raise UserError(f"the attention mask has dtype {mask.dtype}; it must be bool, True where a query may see a key")
    scores, vjp = scaled @ _transposed(key), lambda dscores: dscores
    if softcap:
        scores, vjp = bend(scores, softcap)
    if bias is not None:
        scores = scores + bias.astype(scores.real.dtype)
    if causal:
        visible = causal_mask(*scores.shape[-2:])
        mask = visible if mask is None else visible & mask
    return (scores if mask is None else np.where(mask, scores, -np.inf)), vjp
