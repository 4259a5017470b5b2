"""The Lorentz model: points on the upper sheet of a hyperboloid, time first.

    <x, y> = -x_0 y_0 + x_1 y_1 + ... + x_d y_d        <x, x> = -1 / c,  x_0 > 0        curvature -c

The time of a point follows from its space coordinates, x_0 = sqrt(1 / c + ||x_s||^2), and that of a vector v tangent
at x from <x, v> = 0: v_0 = x_s . v_s / x_0. So these functions read space coordinates alone and compute times where
they need them: points never drift off the hyperboloid, and gradients of times that are not read are 0.
"""

import numpy as np

from numpy_ref.hyperbolic.radial import TINY, asinhc, sinhc
from numpy_ref.hyperbolic.tangent import haversine
from numpy_ref.hyperbolic.tangent import distance as tangent_distance


def lift(space, c):
    """The point of the hyperboloid above space coordinates.

        x = (sqrt(1 / c + ||s||^2), s)

    Shapes: space (..., d), c () -> x (..., 1 + d);  vjp: dx -> dspace, dc.

    Backward: dspace = dx_s + dx_0 s / x_0        dc = -sum dx_0 / (2 c^2 x_0)
    """
    time = np.sqrt(1.0 / c + _dot(space, space))

    def vjp(dx):
        share = dx[..., :1] / time
        return dx[..., 1:] + share * space, np.asarray(-np.sum(share) / (2.0 * c * c))

    return np.concatenate((time, space), axis=-1), vjp


def project(x, c):
    """The point of the hyperboloid with the space coordinates of x: mends what rounding or an ordinary step has done.

    Shapes: x (..., 1 + d), c () -> (..., 1 + d);  vjp: dy -> dx, dc. Backward: that of ``lift``; x_0 is not read.
    """
    y, lift_vjp = lift(x[..., 1:], c)

    def vjp(dy):
        dspace, dc = lift_vjp(dy)
        return _with_time(0.0, dspace), dc

    return y, vjp


def inner(x, y):
    """The Lorentz inner product <x, y> = -x_0 y_0 + x_s . y_s.

    Shapes: x, y (..., 1 + d) -> (...);  vjp: dz (...) -> dx, dy.  Backward: dx = dz (-y_0, y_s), dy = dz (-x_0, x_s)
    """

    def vjp(dz):
        return dz[..., None] * _flipped(y), dz[..., None] * _flipped(x)

    return np.sum(_flipped(x) * y, axis=-1), vjp


def exp_map_origin(v, c):
    """Where one arrives by going ||v|| from the origin (1 / sqrt(c), 0, ..., 0) in the direction of v.

        x_s = sinh(r) / r v,    r = sqrt(c) ||v||

    v holds the space coordinates of a tangent vector at the origin; its time coordinate is 0 there.

    Shapes: v (..., d), c () -> x (..., 1 + d);  vjp: dx -> dv, dc.

    Backward. With a = sinhc(t) and t = c ||v||^2,

        ds by ``lift``;    dt = a'(t) (ds . v)        dv = a ds + 2 c dt v        dc = sum dt ||v||^2 + that of lift
    """
    square = _dot(v, v)
    stretch, stretch_vjp = sinhc(c * square)
    x, lift_vjp = lift(stretch * v, c)

    def vjp(dx):
        dspace, dc = lift_vjp(dx)
        dt = stretch_vjp(_dot(dspace, v))
        return stretch * dspace + 2.0 * c * dt * v, np.asarray(dc + np.sum(dt * square))

    return x, vjp


def log_map_origin(x, c):
    """The tangent vector at the origin that leads to x: the inverse of ``exp_map_origin``.

        v = asinh(r) / r x_s,    r = sqrt(c) ||x_s||

    asinh of the space coordinates, never acosh of the time: near the origin x_0 is 1 and tells nothing.

    Shapes: x (..., 1 + d), c () -> v (..., d);  vjp: dv -> dx, dc.

    Backward: with b = asinhc(t) and t = c ||x_s||^2,  dx_s = b dv + 2 c b'(t) (dv . x_s) x_s and dx_0 = 0.
    """
    space = x[..., 1:]
    square = _dot(space, space)
    stretch, stretch_vjp = asinhc(c * square)

    def vjp(dv):
        dt = stretch_vjp(_dot(dv, space))
        return _with_time(0.0, stretch * dv + 2.0 * c * dt * space), np.asarray(np.sum(dt * square))

    return stretch * space, vjp


def distance(x, y, c, squared=False):
    """Length of the geodesic from x to y, or its square: ``tangent.distance`` of the logarithms at the origin.

    acosh(-c <x, y>) / sqrt(c) says the same, but in float32 it is right for near neighbours of the origin only.

    Shapes: x, y (..., 1 + d), whose leading axes broadcast, c () -> (...);  vjp: dy (...) -> dx, dy, dc.
    """
    v, v_vjp = log_map_origin(x, c)
    w, w_vjp = log_map_origin(y, c)
    d, d_vjp = tangent_distance(v, w, c, squared)

    def vjp(dd):
        dv, dw, dc = d_vjp(dd)
        dx, dc_x = v_vjp(dv)
        dy, dc_y = w_vjp(dw)
        return dx, dy, np.asarray(dc + dc_x + dc_y)

    return d, vjp


def exp_map(x, v, c):
    """Where one arrives by going along v, tangent at x, for the length of v.

        y = cosh(r) x + sinh(r) / r v,    r = sqrt(c <v, v>)

    Far from the origin <v, v> = ||v_s||^2 - v_0^2 is the difference of two large numbers. With v_0 = x_s . v_s / x_0
    and Lagrange's identity it is a sum of squares, which keeps its digits:

        <v, v> = (||v_s||^2 / c + || n v_s - (u . v_s) x_s ||^2) / x_0^2,    n = ||x_s||,  u = x_s / n

    Shapes: x, v (..., 1 + d), c () -> y (..., 1 + d);  vjp: dy -> dx, dv, dc. Times of x and v are not read.

    Backward. With t = c <v, v>, a = sinhc(t), b = cosh(sqrt(t)) - 1 = t sinhc(t / 4)^2 / 2, so that db/dt = a / 2, and
    p = x_s . v_s, the derivatives of q = <v, v> = ||v_s||^2 - p^2 / x_0^2, x_0^2 = 1 / c + ||x_s||^2, are

        ds by ``lift``;    dt = a'(t) (ds . v_s) + (a / 2) (ds . x_s)        dq = c dt        k = p / x_0^2
        dv_s = a ds + 2 dq (v_s - k x_s)        dx_s = (1 + b) ds - 2 dq k (v_s - k x_s)
        dc = sum q dt - dq k^2 / c^2 + that of lift
    """
    xs, vs = x[..., 1:], v[..., 1:]
    time2 = 1.0 / c + _dot(xs, xs)
    square = _tangent_square(xs, vs, time2, c)
    t = c * square
    stretch, stretch_vjp = sinhc(t)
    rise = 0.5 * t * sinhc(0.25 * t)[0] ** 2
    y, lift_vjp = lift(xs + rise * xs + stretch * vs, c)

    def vjp(dy):
        ds, dc = lift_vjp(dy)
        dt = stretch_vjp(_dot(ds, vs)) + 0.5 * stretch * _dot(ds, xs)
        k = _dot(xs, vs) / time2
        across = 2.0 * c * dt * (vs - k * xs)
        dx, dv = ds + rise * ds - k * across, stretch * ds + across
        dc = dc + np.sum(square * dt - dt * k * k / c)
        return _with_time(0.0, dx), _with_time(0.0, dv), np.asarray(dc)

    return y, vjp


def log_map(x, y, c):
    """The vector tangent at x that leads to y: the inverse of ``exp_map``.

        v = theta / sinh(theta) (y - cosh(theta) x),    theta = sqrt(c) d(x, y)

    With h = sinh(theta / 2)^2, cosh(theta) = 1 + 2 h and sinh(theta) = 2 sqrt(h (1 + h)), so that near and equal points
    need no care:

        v_s = f (y_s - x_s - 2 h x_s),    f = asinhc(h) / sqrt(1 + h)        v_0 = x_s . v_s / x_0

    Shapes: x, y (..., 1 + d), c () -> v (..., 1 + d);  vjp: dv -> dx, dy, dc.

    Backward. From v_0 to v_s, x_s and x_0; then with w = y_s - x_s - 2 h x_s,

        dw = f dv_s        dh = f'(h) (dv_s . w) - 2 dw . x_s,    f' = asinhc'(h) / sqrt(1 + h) - f / (2 (1 + h))
        dy_s = dw          dx_s = -(1 + 2 h) dw

    and from h by ``haversine`` and ``log_map_origin`` to x, y and c.
    """
    h, h_vjp = _haversine(x, y, c)
    xs, ys = x[..., 1:], y[..., 1:]
    root = np.sqrt(1.0 + h)
    ratio, ratio_vjp = asinhc(h)
    way = ys - xs - 2.0 * h * xs
    vs = ratio / root * way
    v, time_vjp = _tangent(vs, xs, c)

    def vjp(dv):
        dvs, dxs, dc = time_vjp(dv)
        dway, df = ratio / root * dvs, _dot(dvs, way)
        dh = ratio_vjp(df / root) - df * ratio / (2.0 * root * (1.0 + h)) - 2.0 * _dot(dway, xs)
        dx, dy, dc_h = h_vjp(dh)
        dx = dx + _with_time(0.0, dxs - dway - 2.0 * h * dway)
        return dx, dy + _with_time(0.0, dway), np.asarray(dc + dc_h)

    return v, vjp


def parallel_transport(x, y, v, c):
    """The vector v, tangent at x, carried along the geodesic to y: lengths and angles stay.

        v' = v + c <y, v> / (1 - c <x, y>) (x + y)

    <x, v> = 0, so <y, v> = <y - x, v>, and with y_0 - x_0 = (y_s - x_s) . (x_s + y_s) / (x_0 + y_0) it is a single
    product of the difference of the points: exact for near ones, wherever they lie.

        <y, v> = (y_s - x_s) . g,    g = v_s - v_0 / (x_0 + y_0) (x_s + y_s)        1 - c <x, y> = 2 (1 + h)

    Shapes: x, y, v (..., 1 + d), c () -> v' (..., 1 + d);  vjp: dv' -> dx, dy, dv, dc.

    Backward, with s = x_s + y_s, e = y_s - x_s, T = x_0 + y_0 and v'_s = v_s + k s, k = c (e . g) / (2 (1 + h)):

        dk = dv'_s . s      ds = k dv'_s        di = c dk / (2 (1 + h))      dh = -dk k / (1 + h)
        de = di g           dg = di e           dv_0 = -(dg . s) / T         ds = ds - v_0 / T dg      dT = -dv_0 v_0 / T
    """
    h, h_vjp = _haversine(x, y, c)
    xs, ys, vs = x[..., 1:], y[..., 1:], v[..., 1:]
    (tangent, tangent_vjp), (top, top_vjp) = _tangent(vs, xs, c), lift(ys, c)
    bottom, bottom_vjp = lift(xs, c)
    v0, total = tangent[..., :1], bottom[..., :1] + top[..., :1]
    s, e = xs + ys, ys - xs
    g = vs - v0 / total * s
    i = _dot(e, g)
    k = c * i / (2.0 * (1.0 + h))
    moved = vs + k * s
    y_out, moved_vjp = _tangent(moved, ys, c)

    def vjp(dout):
        dmoved, dys, dc = moved_vjp(dout)
        dk = _dot(dmoved, s)
        di = c * dk / (2.0 * (1.0 + h))
        de, dg = di * g, di * e
        dv0 = -_dot(dg, s) / total
        dtotal = -dv0 * v0 / total
        ds = k * dmoved - v0 / total * dg
        dx, dy, dc_h = h_vjp(-dk * k / (1.0 + h))
        dvs, dxs, dc_v = tangent_vjp(_with_time(dv0, dmoved + dg))
        (dxs_time, dc_x), (dys_time, dc_y) = (f(_with_time(dtotal, 0.0 * ds)) for f in (bottom_vjp, top_vjp))
        dx = dx + _with_time(0.0, ds - de + dxs + dxs_time)
        dy = dy + _with_time(0.0, ds + de + dys + dys_time)
        dc = dc + dc_h + dc_v + dc_x + dc_y + np.sum(dk * i / (2.0 * (1.0 + h)))
        return dx, dy, _with_time(0.0, dvs), np.asarray(dc)

    return y_out, vjp


def exp_and_carry(x, v, factor, c):
    """A step of an optimiser with momentum: y = exp_x(factor v), and v carried along to y.

    Shapes: x, v (..., 1 + d), factor (..., 1), c () -> y, v' (..., 1 + d). No vjp: optimisers use it.
    """
    y, _ = exp_map(x, factor * v, c)
    return y, parallel_transport(x, y, v, c)[0]


def squared_length(x, v, c):
    """<v, v> of vectors tangent at x, as the sum of squares of ``exp_map``.

    Shapes: x, v (..., 1 + d), c () -> (..., 1). No vjp: optimisers use it.
    """
    xs = x[..., 1:]
    return _tangent_square(xs, v[..., 1:], 1.0 / c + _dot(xs, xs), c)


def riemannian_gradient(x, grad, c):
    """The direction of steepest ascent on the hyperboloid, for a gradient with respect to the d + 1 coordinates.

        h = (-g_0, g_s)        the gradient in the Lorentz metric
        h + c <x, h> x         its part tangent at x; <x, h> = x . g

    Shapes: x, grad (..., 1 + d), c () -> (..., 1 + d). No vjp: optimisers use it.
    """
    rise = x[..., :1] * grad[..., :1] + _dot(x[..., 1:], grad[..., 1:])
    return _tangent(grad[..., 1:] + c * rise * x[..., 1:], x[..., 1:], c)[0]


def _tangent(space, xs, c):
    """The vector tangent at x with these space coordinates: v_0 = x_s . v_s / x_0.  vjp: dv -> dspace, dx_s, dc."""
    time = np.sqrt(1.0 / c + _dot(xs, xs))
    v0 = _dot(space, xs) / time

    def vjp(dv):
        share = dv[..., :1] / time
        dxs = share * space - share * v0 / time * xs
        return dv[..., 1:] + share * xs, dxs, np.sum(share * v0 / time) / (2.0 * c * c)

    return np.concatenate((v0, space), axis=-1), vjp


def _tangent_square(xs, vs, time2, c):
    """<v, v> (..., 1) of a vector tangent at x, as in ``exp_map``; time2 = x_0^2."""
    n = np.sqrt(_dot(xs, xs))
    n = np.where(n.real > TINY, n, TINY)
    wedge = n * vs - _dot(xs, vs) / n * xs
    return (_dot(vs, vs) / c + _dot(wedge, wedge)) / time2


def _haversine(x, y, c):
    """``tangent.haversine`` of two points, (..., 1);  vjp: dh (..., 1) -> dx, dy, dc."""
    v, v_vjp = log_map_origin(x, c)
    w, w_vjp = log_map_origin(y, c)
    h, h_vjp = haversine(v, w, c)

    def vjp(dh):
        dv, dw, dc = h_vjp(dh[..., 0])
        dx, dc_x = v_vjp(dv)
        dy, dc_y = w_vjp(dw)
        return dx, dy, dc + dc_x + dc_y

    return h[..., None], vjp


def _flipped(x):
    """(-x_0, x_s)."""
    return np.concatenate((-x[..., :1], x[..., 1:]), axis=-1)


def _with_time(time, space):
    """(time, space); a number counts for all."""
    return np.concatenate((time + 0.0 * space[..., :1], space), axis=-1)


def _dot(x, y):
    return np.sum(x * y, axis=-1, keepdims=True)
