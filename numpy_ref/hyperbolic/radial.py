"""Functions of one number from which every map of hyperbolic space is made.

Maps stretch a vector v by sinh(r) / r and the like, with r = sqrt(c) ||v||. As functions of the square t = r^2 these are
smooth everywhere, the origin included, where r itself has a kink and 0 / 0 waits. So they are written as functions of t.

Their slopes at small t are differences of numbers near 1, and would have no digits left. One power series, that of
sinhc, mends all four: asinhc and atanhc are one over sinhc and tanhc of the square of their angle.
"""

import math

import numpy as np

TINY = 1e-18  # what norms are at least: below it, directions mean nothing

_SERIES = [1.0 / math.factorial(2 * k + 1) for k in range(11)]  # of sinhc; the next term is below 1e-22 for t < 1


def sinhc(t):
    """sinh(sqrt(t)) / sqrt(t) of t >= 0, the sum of t^k / (2k + 1)!.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    Backward. With r = sqrt(t) and y = sinh(r) / r, and since dr/dt = 1 / (2 r),

        dy/dt = (cosh(r) / r - sinh(r) / r^2) / (2 r) = (cosh(r) - y) / (2 t)

    Below t = 1 value and slope are sums of the series.
    """
    y, slope = _sinhc(t)
    return y, lambda dy: dy * slope


def asinhc(t):
    """asinh(sqrt(t)) / sqrt(t) of t >= 0.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    With a = asinh(sqrt(t)) and t = sinh(a)^2 it is y = a / sinh(a) = 1 / sinhc(a^2).

    Backward: d(a^2)/dt = 2 a da/dt = y / sqrt(1 + t), so that dy/dt = -sinhc'(a^2) y^3 / sqrt(1 + t).
    """
    t = np.where(t.real < 0, t - t.real, t)  # rounding may have left a hair less than 0
    angle = np.arcsinh(np.sqrt(t))
    stretch, slope = _sinhc(angle * angle)
    y = 1.0 / stretch
    return y, lambda dy: -dy * slope * y**3 / np.sqrt(1.0 + t)


def tanhc(t):
    """tanh(sqrt(t)) / sqrt(t) of t >= 0.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    Backward. Below t = 1 it is y = s / k with s = sinhc(t) and k = cosh(r), whose slope is s / 2; beyond, as for sinhc,

        dy/dt = (s' - y s / 2) / k        dy/dt = (1 - t y^2 - y) / (2 t)
    """
    y, slope = _tanhc(t)
    return y, lambda dy: dy * slope


def atanhc(t):
    """atanh(sqrt(t)) / sqrt(t) of 0 <= t < 1; from the last number below 1 on it stays as it is there, with slope 0.

    Shapes: (...) -> (...);  vjp: dy (...) -> dt (...).

    With a = atanh(sqrt(t)) = asinh(sqrt(t / (1 - t))) and t = tanh(a)^2 it is y = a / tanh(a) = 1 / tanhc(a^2).

    Backward: d(a^2)/dt = 2 a da/dt = y / (1 - t), so that dy/dt = -tanhc'(a^2) y^3 / (1 - t).
    """
    edge = 1.0 - np.finfo(t.dtype).epsneg
    inside = t.real <= edge
    t = np.where(inside, t, edge)
    angle = np.arcsinh(np.sqrt(t / (1.0 - t)))
    stretch, slope = _tanhc(angle * angle)
    y = 1.0 / stretch
    return y, lambda dy: np.where(inside, -dy * slope * y**3 / (1.0 - t), 0.0)


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


def _sinhc(t):
    """sinhc and its slope: by the series below t = 1, as they are written beyond."""
    near = t.real < 1.0
    series, slope = _SERIES[-1], 0.0
    small = np.where(near, t, 0.0)
    for coefficient in reversed(_SERIES[:-1]):  # Horner's rule, for the polynomial and its derivative at once
        slope = slope * small + series
        series = series * small + coefficient
    large = np.where(near, 1.0, t)
    r = np.sqrt(large)
    y = np.sinh(r) / r
    return np.where(near, series, y), np.where(near, slope, (np.cosh(r) - y) / (2.0 * large))


def _tanhc(t):
    """tanhc and its slope."""
    near = t.real < 1.0
    s, s_slope = _sinhc(np.where(near, t, 0.0))
    large = np.where(near, 1.0, t)
    r, k = np.sqrt(large), np.cosh(np.sqrt(np.where(near, t, 0.0)))
    y = np.where(near, s / k, np.tanh(r) / r)
    return y, np.where(near, (s_slope - 0.5 * y * s) / k, (1.0 - large * y * y - y) / (2.0 * large))
