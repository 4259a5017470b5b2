"""Distances between points that are given by tangent vectors at the origin: exact in float32 far from it, too.

The vector v stands for the point exp_0(v), which lies ||v|| away from the origin in the direction of v. A point's own
coordinates grow like exp(sqrt(c) ||v||), or crowd at the boundary of the ball; v itself remains an ordinary vector.
"""

import numpy as np

from numpy_ref.hyperbolic.radial import TINY, arc

NUMPY_ONLY = {"sum_to"}  # autograd does it for tensors


def haversine(v, w, c):
    """sinh(sqrt(c) d / 2)^2 of the distance d between exp_0(v) and exp_0(w), without any cancellation.

        h = sinh((r - q) / 2)^2 + sinh(r) sinh(q) ||e||^2 / 4
        r = sqrt(c) ||v||,  q = sqrt(c) ||w||,  e = v / ||v|| - w / ||w||

    This is the law of cosines, cosh(d) = cosh(r) cosh(q) - sinh(r) sinh(q) cos(angle), with both cosines replaced by
    what they lack of 1: cosh(x) = 1 + 2 sinh(x / 2)^2 and cos(angle) = 1 - ||e||^2 / 2. All terms are positive, so that
    nothing is lost: in float32 the relative error stays near 1e-7, where acosh of an inner product of points 10 away
    from the origin has no correct digit.

    Shapes: v, w (..., d), whose leading axes broadcast, c () -> h (...);  vjp: dy (...) -> dv, dw, dc.

    Backward. Of the three parts of h,

        dr = dy (sinh(r - q) / 2 + cosh(r) sinh(q) ||e||^2 / 4)          dq the same with r and q exchanged
        dv = sqrt(c) dr u + (dy / 2) (sinh(r) sinh(q) / ||v||) (e - (e.u) u),    u = v / ||v||;  dw with -e

    At v = 0 there is no direction u, but h is smooth there: sinh(r) / ||v|| tends to sqrt(c), and u = 0 gives the right
    gradient -sqrt(c) sinh(q) w / (2 ||w||). Curvature enters by r and q, both proportional to sqrt(c):
    dc = (dr r + dq q) / (2 c).
    """
    root = c**0.5
    n, m = _norm(v), _norm(w)
    u, z, r, q = v / n, w / m, root * n, root * m
    e, product = u - z, np.sinh(r) * np.sinh(q)
    square = np.sum(e * e, axis=-1, keepdims=True)
    h = np.sinh(0.5 * (r - q)) ** 2 + 0.25 * product * square

    def vjp(dy):
        dy = dy[..., None]
        half, share = 0.5 * np.sinh(r - q), 0.25 * square
        dr = dy * (np.cosh(r) * np.sinh(q) * share + half)
        dq = dy * (np.cosh(q) * np.sinh(r) * share - half)
        de = 0.5 * dy * product
        dv = root * dr * u + de / n * (e - _dot(e, u) * u)
        dw = root * dq * z - de / m * (e - _dot(e, z) * z)
        dc = np.asarray(np.sum(dr * r + dq * q) / (2.0 * c))
        return sum_to(dv, v.shape), sum_to(dw, w.shape), dc

    return h[..., 0], vjp


def distance(v, w, c, squared=False):
    """Distance between exp_0(v) and exp_0(w), or its square, which has no kink where both are equal.

        d = 2 asinh(sqrt(h)) / sqrt(c),    h the ``haversine``

    As c goes to 0 it becomes the Euclidean distance ||v - w||. float32 reaches to radii of 44 / sqrt(c).

    Shapes: v, w (..., d), whose leading axes broadcast, c () -> (...);  vjp: dy (...) -> dv, dw, dc.

    Backward: through ``arc`` and ``haversine``; the factor c^(-1/2), or c^(-1), adds -dy d / (2 c), or -dy d^2 / c.
    """
    h, h_vjp = haversine(v, w, c)
    theta, arc_vjp = arc(h, squared)
    power = -1.0 if squared else -0.5
    d = theta * c**power

    def vjp(dy):
        dv, dw, dc = h_vjp(arc_vjp(dy * c**power))
        return dv, dw, np.asarray(dc + power * np.sum(dy * d) / c)

    return d, vjp


def sum_to(gradient, shape):
    """The gradient of an array that was broadcast: summed over the axes along which it was repeated.

    Shapes: (...) -> shape.
    """
    gradient = np.sum(gradient, axis=tuple(range(gradient.ndim - len(shape)))) if gradient.ndim > len(shape) else gradient
    repeated = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    return np.sum(gradient, axis=repeated, keepdims=True) if repeated else gradient


def _norm(v):
    """||v|| (..., 1), at least TINY."""
    n = np.sqrt(_dot(v, v))
    return np.where(n.real > TINY, n, TINY)


def _dot(x, y):
    return np.sum(x * y, axis=-1, keepdims=True)
