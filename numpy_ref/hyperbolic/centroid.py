"""The centroid of weighted points of the hyperboloid."""

import numpy as np

from numpy_ref.hyperbolic.lorentz import lift
from numpy_ref.hyperbolic.radial import TINY


def centroid(x, weights, c):
    """The point that minimises the weighted sum of -<x_i, y>: the weighted sum, drawn back to the hyperboloid.

        s = sum_i w_i x_i        y = s / (sqrt(c) nu),    nu = sqrt(-<s, s>)            (arXiv:1904.02239, theorem 3.3)

    nu^2 = (s_0 - ||s_s||) (s_0 + ||s_s||), and far from the origin s_0 and ||s_s|| share most of their digits. With
    n_i = ||x_i,s|| and the directions u_i = x_i,s / n_i, u = s_s / ||s_s|| their difference is a sum of positive terms:

        s_0 - ||s_s|| = sum_i w_i (1 / (c (x_i,0 + n_i)) + n_i ||u_i - u||^2 / 2)

    for ||s_s|| = sum_i w_i n_i (u_i . u), and x_i,0 - n_i = 1 / (c (x_i,0 + n_i)).

    Shapes: x (..., n, 1 + d), weights (..., n) of at least 0 and not all 0, c () -> y (..., 1 + d);
    vjp: dy -> dx, dweights, dc. Times of x are not read.

    Backward. With g = dy_s + dy_0 y_s / y_0 of ``lift`` and b = g . s_s / (sqrt(c) nu^3),

        ds_s = g / (sqrt(c) nu) + b s_s        ds_0 = -b s_0        dc = -g . y_s / (2 c) + that of the lifts
        dx_i = w_i (ds_s + ds_0 x_i,s / x_i,0)        dw_i = ds . x_i
    """
    space, w = x[..., 1:], weights[..., None]
    points, points_vjp = lift(space, c)
    times = points[..., :1]
    total = np.sum(w * space, axis=-2)
    n, length = _norm(space), _norm(total)
    off = space / n - (total / length)[..., None, :]
    lead = np.sum(w * (1.0 / (c * (times + n)) + 0.5 * n * np.sum(off * off, axis=-1, keepdims=True)), axis=-2)
    time = np.sum(w * times, axis=-2)
    nu = np.sqrt(lead * (time + length))
    y, lift_vjp = lift(total / (c**0.5 * nu), c)

    def vjp(dy):
        g, dc = lift_vjp(dy)
        b = np.sum(g * total, axis=-1, keepdims=True) / (c**0.5 * nu**3)
        ds = np.concatenate((-b * time, g / (c**0.5 * nu) + b * total), axis=-1)[..., None, :]
        dspace, dc_points = points_vjp(w * ds)
        dx = np.concatenate((0.0 * times, dspace), axis=-1)
        dc = dc + dc_points - np.sum(g * y[..., 1:]) / (2.0 * c)
        return dx, np.sum(ds * points, axis=-1), np.asarray(dc)

    return y, vjp


def _norm(v):
    """||v|| (..., 1), at least TINY."""
    n = np.sqrt(np.sum(v * v, axis=-1, keepdims=True))
    return np.where(n.real > TINY, n, TINY)
