"""Functions of one number from which every map of hyperbolic space is made.

Maps stretch a vector v by sinh(r) / r and the like, with r = sqrt(c) ||v||. As functions of the square t = r^2 these are
smooth everywhere, the origin included, where r itself has a kink and 0 / 0 waits. So they are written as functions of t.
"""

import numpy as np

NUMPY_ONLY = {"sinhc", "asinhc", "tanhc", "atanhc", "SMALL"}  # parts of hand-derived gradients
TINY = 1e-18  # what norms are at least: below it, directions mean nothing
SMALL = 1e-10  # below it f(0) + f'(0) t is exact to the last digit of float64


def sinhc(t):
    """sinh(sqrt(t)) / sqrt(t) of t >= 0.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    Backward. With r = sqrt(t) and y = sinh(r) / r, and since dr/dt = 1 / (2 r),

        dy/dt = (cosh(r) / r - sinh(r) / r^2) / (2 r) = (cosh(r) - y) / (2 t),    1/6 at t = 0

    The difference cancels as t becomes small, to an absolute error of u / t. In a map this slope is multiplied by t,
    so that the gradient of the map is exact to u all the same; that is why no series is needed.
    """
    return _ratio(t, np.sinh, lambda t, r, y: (np.cosh(r) - y) / (2.0 * t), 1.0 / 6.0)


def asinhc(t):
    """asinh(sqrt(t)) / sqrt(t) of t >= 0.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    Backward: dy/dt = (1 / sqrt(1 + t) - y) / (2 t),    -1/6 at t = 0
    """
    return _ratio(t, np.arcsinh, lambda t, r, y: (1.0 / np.sqrt(1.0 + t) - y) / (2.0 * t), -1.0 / 6.0)


def tanhc(t):
    """tanh(sqrt(t)) / sqrt(t) of t >= 0.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    Backward: with tanh(r) = r y and 1 / cosh^2 = 1 - tanh^2,  dy/dt = (1 - t y^2 - y) / (2 t),    -1/3 at t = 0
    """
    return _ratio(t, np.tanh, lambda t, r, y: (1.0 - t * y * y - y) / (2.0 * t), -1.0 / 3.0)


def atanhc(t):
    """atanh(sqrt(t)) / sqrt(t) of 0 <= t < 1; from the last number below 1 on it stays as it is there, with slope 0.

    atanh(r) = asinh(r / sqrt(1 - r^2)) makes it asinhc(t / (1 - t)) / sqrt(1 - t), which loses nothing as t goes to 1.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    Backward: dy/dt = (1 / (1 - t) - y) / (2 t),    1/3 at t = 0
    """
    edge = 1.0 - np.finfo(t.dtype).epsneg
    inside, small = t.real <= edge, t.real < SMALL
    t = np.where(inside, t, edge)
    y = asinhc(t / (1.0 - t))[0] / np.sqrt(1.0 - t)

    def vjp(dy):
        slope = (1.0 / (1.0 - t) - y) / (2.0 * np.where(small, 1.0, t))
        return np.where(inside, dy * np.where(small, 1.0 / 3.0, slope), 0.0)

    return y, vjp


def arc(h, squared=False):
    """The angle whose haversine is h: theta with h = sinh(theta / 2)^2; or theta^2.

        theta = 2 asinh(sqrt(h))

    h keeps its digits where cosh(theta) = 1 + 2 h has lost them: of theta = 1e-4 float32 keeps none in cosh(theta).

    Shapes: h >= 0 (...) -> (...);  vjp: dy (...) -> dh (...).

    Backward: dtheta/dh = 1 / sqrt(h (1 + h)), infinite at h = 0, where a distance has a kink as |x| has: the gradient
    there is 0, one of the subgradients. The square has no kink: dtheta^2/dh = 4 asinhc(h) / sqrt(1 + h).
    """
    ratio, ratio_vjp = asinhc(h)
    if squared:
        return 4.0 * h * ratio * ratio, lambda dy: dy * 4.0 * ratio / np.sqrt(1.0 + h)
    apart = h.real > 0
    safe = np.where(apart, h, 1.0)
    theta = np.where(apart, 2.0 * np.arcsinh(np.sqrt(safe)), 0.0)
    return theta, lambda dy: np.where(apart, dy / (np.sqrt(safe) * np.sqrt(1.0 + safe)), 0.0)


def _ratio(t, function, slope, at_zero):
    """function(r) / r with r = sqrt(t), and its vjp; ``slope(t, r, y)`` is the derivative, ``at_zero`` its value at 0."""
    small = t.real < SMALL
    safe = np.where(small, SMALL, t)
    r = np.sqrt(safe)
    direct = function(r) / r
    y = np.where(small, 1.0 + at_zero * t, direct)
    return y, lambda dy: dy * np.where(small, at_zero, slope(safe, r, direct))
