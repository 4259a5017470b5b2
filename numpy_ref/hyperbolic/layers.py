"""Layers of networks whose features are points of the hyperboloid.

A layer hands on the space coordinates x_s of points and computes their times, x_0 = sqrt(1 / c + ||x_s||^2), where it
needs them: space coordinates are ordinary vectors, so norms, biases, caches and optimisers work on them as ever, and
no layer can leave the hyperboloid.
"""

import numpy as np

from numpy_ref.hyperbolic.lorentz import exp_map_origin, lift
from numpy_ref.model.attention import scaled_dot_product_attention
from numpy_ref.model.embedding import embedding
from numpy_ref.model.linear import linear


def hyperbolic_embedding(tokens, weight, c):
    """Points of the hyperboloid for token ids: the table holds tangent vectors at the origin.

        x = exp_0(weight[tokens])

    A row's length is its point's distance from the origin, however far that is.

    Shapes: tokens (...) of whole numbers in range(V), weight (V, d), c () -> space coordinates (..., d);
    vjp: dx (..., d) -> dweight (V, d), dc.

    Backward: through ``lorentz.exp_map_origin`` and ``embedding``; the times, left out here, have gradient 0.
    """
    v, rows_vjp = embedding(tokens, weight)
    x, exp_vjp = exp_map_origin(v, c)

    def vjp(dx):
        dv, dc = exp_vjp(_with_time(0.0, dx))
        return rows_vjp(dv), dc

    return x[..., 1:], vjp


def lorentz_linear(x, weight, bias, c):
    """A linear map between hyperboloids (arXiv:2105.14686, section 3.1, without its gate).

        y_s = W (x_0, x_s) + b,    y_0 = sqrt(1 / c + ||y_s||^2)

    Any matrix will do: rotations and boosts, which keep distances, are special cases.

    Shapes: x space coordinates (..., i), weight W (o, 1 + i), bias (o,) or None, c () -> (..., o);
    vjp: dy (..., o) -> dx, dweight, dbias or None, dc.  Backward: through ``linear`` and ``lorentz.lift``.
    """
    point, lift_vjp = lift(x, c)
    y, linear_vjp = linear(point, weight, bias)

    def vjp(dy):
        dpoint, dweight, dbias = linear_vjp(dy)
        dx, dc = lift_vjp(dpoint)
        return dx, dweight, dbias, dc

    return y, vjp


def lorentz_attention(query, key, value, c, mask=None, causal=False, scale=None):
    """Attention by distance: near keys count more, and the values' centroid is the result (arXiv:2105.14686, section 3.2).

        P = softmax(-scale d_L(q, k)^2)        d_L(q, k)^2 = -2 / c - 2 <q, k>        y = centroid of the values under P

    d_L is the length of the straight line between two points in the space around the hyperboloid, measured by <.,.>: it
    grows with their distance, d_L^2 = (4 / c) sinh(sqrt(c) d / 2)^2. As -2 / c is the same for all keys, the scores are
    products, 2 scale <q, k>, and attention with the usual kernels does it: ``lift_heads`` and ``midpoints`` around it.

    Shapes: space coordinates, query (..., H, Tq, d), key and value (..., G, Tk, d), c () -> (..., H, Tq, d);
    scale 1 / sqrt(1 + d) unless given, mask and causal as for ``scaled_dot_product_attention``.
    vjp: dy -> dquery, dkey, dvalue, dc.  A query that sees no key gives the origin.
    """
    heads, lift_vjp = lift_heads(query, key, value, c)
    sums, attention_vjp = scaled_dot_product_attention(*heads, mask, causal, scale)
    y, midpoints_vjp = midpoints(sums, c)

    def vjp(dy):
        dsums, dc = midpoints_vjp(dy)
        dquery, dkey, dvalue, dc_heads = lift_vjp(attention_vjp(dsums))
        return dquery, dkey, dvalue, np.asarray(dc + dc_heads)

    return y, vjp


def lift_heads(query, key, value, c):
    """Queries, keys and values with their times, prepared so that query . key is the score of ``lorentz_attention``.

        q' = 2 (-q_0, q_s)        k' = (k_0, k_s)        v' = (v_0, v_s)        q' . k' = 2 <q, k> = -2 / c - d_L(q, k)^2

    Shapes: space coordinates (..., d) each, c () -> ((..., 1 + d), (..., 1 + d), (..., 1 + d));
    vjp: the three gradients in a tuple -> dquery, dkey, dvalue, dc.
    """
    (q, q_vjp), (k, k_vjp), (v, v_vjp) = (lift(x, c) for x in (query, key, value))

    def flipped(q):
        return 2.0 * np.concatenate((-q[..., :1], q[..., 1:]), axis=-1)

    def vjp(grads):
        dq, dk, dv = grads
        (dquery, dc_q), (dkey, dc_k), (dvalue, dc_v) = q_vjp(flipped(dq)), k_vjp(dk), v_vjp(dv)
        return dquery, dkey, dvalue, np.asarray(dc_q + dc_k + dc_v)

    return (flipped(q), k, v), vjp


def midpoints(sums, c):
    """The centroids of points whose weighted sums, with weights that add up to 1, attention has computed.

        y_s = s_s / (sqrt(c) nu),    nu^2 = max(-<s, s>, 1 / c)

    -<s, s> is never below 1 / c for such sums: times add up to more than lengths do. Where rounding says otherwise all
    points are one and the same, and s is that point. So is the empty sum, 0, of a query that sees nothing: the origin.

    Shapes: sums s (..., 1 + d), c () -> space coordinates (..., d);  vjp: dy -> ds, dc.

    Backward. With b = dy . s_s / (sqrt(c) nu^3) above the bound, and 0 at it, where y_s = s_s:

        ds_s = dy / (sqrt(c) nu) + b s_s        ds_0 = -b s_0        dc = -sum dy . y_s / (2 c), 0 at the bound
    """
    time, space = sums[..., :1], sums[..., 1:]
    square = time * time - np.sum(space * space, axis=-1, keepdims=True)
    spread = c * square.real > 1.0
    length = np.where(spread, np.sqrt(np.where(spread, c * square, 1.0)), 1.0)  # sqrt(c) nu
    y = space / length

    def vjp(dy):
        along = np.where(spread, np.sum(dy * space, axis=-1, keepdims=True), 0.0)
        b = c * along / length**3
        ds = np.concatenate((-b * time, dy / length + b * space), axis=-1)
        return ds, np.asarray(-np.sum(along * square / length**3) / 2.0)

    return y, vjp


def _with_time(time, space):
    """(time, space); a number counts for all."""
    return np.concatenate((time + 0.0 * space[..., :1], space), axis=-1)
