"""From one model of hyperbolic space to the other: the same points, the same distances, for any curvature."""

import numpy as np

from numpy_ref.hyperbolic.lorentz import lift


def to_poincare(x, c):
    """The point of the ball at which the line from (-1 / sqrt(c), 0) to x on the hyperboloid meets the plane of time 0.

        p = x_s / (1 + sqrt(c) x_0)

    Shapes: x (..., 1 + d), c () -> p (..., d);  vjp: dp -> dx, dc.

    Backward. p = k x_s with k = 1 / (1 + sqrt(1 + t)) and t = c ||x_s||^2, so k'(t) = -k^2 / (2 sqrt(1 + t)) and

        dt = k'(t) (dp . x_s)        dx_s = k dp + 2 c dt x_s,  dx_0 = 0        dc = sum dt ||x_s||^2
    """
    space = x[..., 1:]
    square = np.sum(space * space, axis=-1, keepdims=True)
    time = np.sqrt(1.0 + c * square)
    factor = 1.0 / (1.0 + time)

    def vjp(dp):
        dt = -0.5 * factor * factor / time * np.sum(dp * space, axis=-1, keepdims=True)
        dspace = factor * dp + 2.0 * c * dt * space
        return np.concatenate((0.0 * dt, dspace), axis=-1), np.asarray(np.sum(dt * square))

    return factor * space, vjp


def to_lorentz(p, c):
    """The inverse of ``to_poincare``.

        x_s = 2 p / (1 - c ||p||^2)

    1 - c ||p||^2 is at least one roundoff, so that a point on the boundary goes far away, but not to infinity.

    Shapes: p (..., d), c () -> x (..., 1 + d);  vjp: dx -> dp, dc.

    Backward. x_s = k p with k = 2 / (1 - t) and t = c ||p||^2, so k'(t) = k^2 / 2 (0 where 1 - t was too small):

        dt = k'(t) (dx_s . p)        dp = k dx_s + 2 c dt p        dc = sum dt ||p||^2 + that of ``lift``
    """
    square = np.sum(p * p, axis=-1, keepdims=True)
    gap, least = 1.0 - c * square, np.finfo(p.dtype).epsneg
    inside = gap.real >= least
    factor = 2.0 / np.where(inside, gap, least)
    x, lift_vjp = lift(factor * p, c)

    def vjp(dx):
        dspace, dc = lift_vjp(dx)
        dt = np.where(inside, 0.5 * factor * factor, 0.0) * np.sum(dspace * p, axis=-1, keepdims=True)
        return factor * dspace + 2.0 * c * dt * p, np.asarray(dc + np.sum(dt * square))

    return x, vjp
