"""The Poincare ball: points x with c ||x||^2 < 1, where angles are Euclid's and lengths grow towards the boundary.

Conventions of arXiv:1805.09112 (section 2): curvature -c, metric lambda_x^2 times Euclid's with lambda_x = 2 / B(x) and
B(x) = 1 - c ||x||^2. So a vector at the origin is twice as long as it looks.

Near the boundary B is the difference of two numbers near 1, and coordinates can't say more: in float32 the ball ends
about 17 / sqrt(c) away from the origin. B is at least one roundoff here, so that everything stays finite.
"""

import numpy as np

from numpy_ref.hyperbolic.radial import TINY, arc, asinhc, atanhc, tanhc
from numpy_ref.hyperbolic.tangent import sum_to


def conformal_factor(x, c):
    """lambda_x = 2 / (1 - c ||x||^2), by which the ball stretches Euclidean lengths at x.

    Shapes: x (..., d), c () -> (..., 1);  vjp: dy (..., 1) -> dx, dc.

    Backward: with lambda = 2 / B,  dB = -dy lambda^2 / 2        dx = -2 c dB x        dc = -sum dB ||x||^2
    """
    gap, gap_vjp = _gap(x, c)
    factor = 2.0 / gap

    def vjp(dy):
        dx, dc = gap_vjp(-0.5 * dy * factor * factor)
        return dx, np.asarray(dc)

    return factor, vjp


def project(x, c, eps=1e-5):
    """Points at or beyond the radius (1 - eps) / sqrt(c) are drawn back to it; the others stay.

    Shapes: x (..., d), c () -> (..., d);  vjp: dy -> dx, dc.

    Backward, where a point is drawn back: y = R u with u = x / ||x||, so dx = R / ||x|| (dy - (dy . u) u): no gradient
    along the radius, and dR = dy . u with R proportional to c^(-1/2).
    """
    n, largest = _norm(x), (1.0 - eps) * c**-0.5
    outside = n.real > np.real(largest)
    factor = np.where(outside, largest / n, 1.0)

    def vjp(dy):
        u = x / n
        along = np.where(outside, _dot(dy, u), 0.0)
        return factor * (dy - along * u), np.asarray(np.sum(along) * largest / (-2.0 * c))

    return factor * x, vjp


def mobius_add(x, y, c):
    """Moebius addition: x + y as the ball has it (arXiv:1805.09112, eq. 2). Neither commutative nor associative.

        x (+) y = ((1 + 2c x.y + c ||y||^2) x + (1 - c ||x||^2) y) / (1 + 2c x.y + c^2 ||x||^2 ||y||^2)

    Numerator and denominator cancel where y is near -x. With s = x + y and q = c ||s||^2 they don't:

        x (+) y = (B(x) s + q x) / (B(x) B(y) + q)

    Shapes: x, y (..., d), c () -> z (..., d);  vjp: dz -> dx, dy, dc.

    Backward. With D the denominator, N the numerator, dN = dz / D and dD = -dN . z,

        ds = B(x) dN        dq = dN . x + dD        dB(x) = dN . s + dD B(y)        dB(y) = dD B(x)
        ds = ds + 2c dq s   dx = ds + q dN - 2c dB(x) x       dy = ds - 2c dB(y) y
        dc = sum dq ||s||^2 - dB(x) ||x||^2 - dB(y) ||y||^2
    """
    (bx, bx_vjp), (by, by_vjp) = _gap(x, c), _gap(y, c)
    s = x + y
    square = _dot(s, s)
    q = c * square
    denominator = bx * by + q
    z = (bx * s + q * x) / denominator

    def vjp(dz):
        dn = dz / denominator
        dd = -_dot(dn, z)
        dq = _dot(dn, x) + dd
        ds = bx * dn + 2.0 * c * dq * s
        dx, dc_x = bx_vjp(_dot(dn, s) + dd * by)
        dy, dc_y = by_vjp(dd * bx)
        return ds + q * dn + dx, ds + dy, np.asarray(dc_x + dc_y + np.sum(dq * square))

    return z, vjp


def exp_map_origin(v, c):
    """exp_0(v) = tanh(r) / r v with r = sqrt(c) ||v|| (arXiv:1805.09112, lemma 2): 2 ||v|| away from the origin.

    Shapes: v (..., d), c () -> (..., d);  vjp: dy -> dv, dc.

    Backward: with a = tanhc(t) and t = c ||v||^2,  dt = a'(t) (dy . v)    dv = a dy + 2c dt v    dc = sum dt ||v||^2
    """
    return _stretched(v, c, tanhc)


def log_map_origin(x, c):
    """log_0(x) = atanh(r) / r x with r = sqrt(c) ||x||: the inverse of ``exp_map_origin``.

    Shapes: x (..., d), c () -> (..., d);  vjp: dy -> dx, dc.  Backward: as there, with atanhc.
    """
    return _stretched(x, c, atanhc)


def exp_map(x, v, c):
    """exp_x(v) = x (+) (tanh(r) / r v / B(x)) with r = sqrt(c) ||v|| / B(x) (arXiv:1805.09112, lemma 2).

    Shapes: x, v (..., d), c () -> (..., d);  vjp: dy -> dx, dv, dc.

    Backward: z = v / B(x) goes through ``exp_map_origin`` and ``mobius_add``; dv = dz / B, dB = -dz . z / B.
    """
    gap, gap_vjp = _gap(x, c)
    z = v / gap
    step, step_vjp = exp_map_origin(z, c)
    y, add_vjp = mobius_add(x, step, c)

    def vjp(dy):
        dx, dstep, dc = add_vjp(dy)
        dz, dc_step = step_vjp(dstep)
        dx_gap, dc_gap = gap_vjp(-_dot(dz, z) / gap)
        return dx + dx_gap, dz / gap, np.asarray(dc + dc_step + dc_gap)

    return y, vjp


def log_map(x, y, c):
    """log_x(y) = B(x) atanh(r) / r w with w = (-x) (+) y and r = sqrt(c) ||w||: the inverse of ``exp_map``.

    Far from each other r is 1 to all digits. With h = sinh(sqrt(c) d / 2)^2, as in ``distance``, r^2 = h / (1 + h) and

        atanh(r) / r = asinhc(h) sqrt(1 + h)

    Shapes: x, y (..., d), c () -> v (..., d);  vjp: dv -> dx, dy, dc.

    Backward. v = B f w with f = asinhc(h) sqrt(1 + h):  dB = f (dv . w)    dw = B f dv    df = B (dv . w), and
    dh = asinhc'(h) sqrt(1 + h) df + asinhc(h) df / (2 sqrt(1 + h)); then through ``mobius_add``, h and B.
    """
    (gap, gap_vjp), (h, h_vjp), (w, add_vjp) = _gap(x, c), haversine(x, y, c), mobius_add(-x, y, c)
    h = h[..., None]
    ratio, ratio_vjp = asinhc(h)
    root = np.sqrt(1.0 + h)
    f = ratio * root

    def vjp(dv):
        dot = _dot(dv, w)
        dh = ratio_vjp(gap * dot * root) + 0.5 * gap * dot * ratio / root
        dx_h, dy_h, dc_h = h_vjp(dh[..., 0])
        minus_dx, dy, dc = add_vjp(gap * f * dv)
        dx_gap, dc_gap = gap_vjp(f * dot)
        return dx_h - minus_dx + dx_gap, dy + dy_h, np.asarray(dc + dc_h + dc_gap)

    return gap * f * w, vjp


def haversine(x, y, c):
    """h = sinh(sqrt(c) d(x, y) / 2)^2 = c ||x - y||^2 / (B(x) B(y)) (arXiv:1705.08039, eq. 1, cosh(d) = 1 + 2 h).

    Shapes: x, y (..., d), whose leading axes broadcast, c () -> (...);  vjp: dh (...) -> dx, dy, dc.

    Backward: de = 2c dh (x - y) / (B(x) B(y)), which goes to x, and negative to y; dB = -dh h / B; dc = dh h / c.
    """
    (bx, bx_vjp), (by, by_vjp) = _gap(x, c), _gap(y, c)
    e = x - y
    square, product = _dot(e, e), bx * by
    h = c * square / product

    def vjp(dh):
        dh = dh[..., None]
        de = 2.0 * c * dh / product * e
        dx, dc_x = bx_vjp(sum_to(-dh * h / bx, bx.shape))
        dy, dc_y = by_vjp(sum_to(-dh * h / by, by.shape))
        dc = dc_x + dc_y + np.sum(dh * square / product)
        return sum_to(de, x.shape) + dx, dy - sum_to(de, y.shape), np.asarray(dc)

    return h[..., 0], vjp


def distance(x, y, c, squared=False):
    """Length of the geodesic from x to y, 2 asinh(sqrt(h)) / sqrt(c) with h = ``haversine``, or its square.

    Shapes: x, y (..., d), whose leading axes broadcast, c () -> (...);  vjp: dy (...) -> dx, dy, dc.

    Backward: through ``arc`` and ``haversine``; the factor c^(-1/2), or c^(-1), adds -dy d / (2 c), or -dy d^2 / c.
    """
    h, h_vjp = haversine(x, y, c)
    theta, arc_vjp = arc(h, squared)
    power = -1.0 if squared else -0.5
    d = theta * c**power

    def vjp(dd):
        dx, dy, dc = h_vjp(arc_vjp(dd * c**power))
        return dx, dy, np.asarray(dc + power * np.sum(dd * d) / c)

    return d, vjp


def parallel_transport(x, y, v, c):
    """The vector v, tangent at x, carried along the geodesic to y: lengths and angles stay (arXiv:1805.09112, sec. 2.4).

        v' = lambda_x / lambda_y gyr[y, -x] v = B(y) / B(x) (v + 2 (a y - b x) / D)        D = B(x) B(y) + c ||y - x||^2

    with the closed form of the gyration (A. Ungar 2008, eq. 1.27). With e = y - x, a y - b x = a e + k x, where

        a = -c B(x) (x.v) - c^2 ||x||^2 (e.v) + 2 c^2 (x.e) (x.v)        k = a - b = c B(x) (e.v) - c^2 ||e||^2 (x.v)

    are as small as e is: nothing cancels for near points, and v' = v for equal ones.

    Shapes: x, y, v (..., d), c () -> (..., d);  vjp: dv' -> dx, dy, dv, dc.

    Backward. With z = v + m P, P = a e + k x, m = 2 / D:

        dz = B(y) / B(x) dv'       dP = m dz       dD = -m (dz . P) / D       da = dP . e       dk = dP . x
        de = a dP, dx = k dP, dv = dz, and each product of two vectors in a and k gives its gradient to both.
    """
    (bx, bx_vjp), (by, by_vjp) = _gap(x, c), _gap(y, c)
    e = y - x
    xv, ev, xx, xe, ee = _dot(x, v), _dot(e, v), _dot(x, x), _dot(x, e), _dot(e, e)
    a = c * (-bx * xv - c * xx * ev + 2.0 * c * xe * xv)
    k = c * (bx * ev - c * ee * xv)
    denominator, turn, ratio = bx * by + c * ee, a * e + k * x, by / bx
    z = v + 2.0 / denominator * turn

    def vjp(dout):
        dratio, dz = _dot(dout, z), ratio * dout
        dturn = 2.0 / denominator * dz
        dd = -_dot(dturn, turn) / denominator
        da, dk = _dot(dturn, e), _dot(dturn, x)
        dbx = -dratio * ratio / bx + c * (dk * ev - da * xv) + dd * by
        dxv, dev = c * (da * (2.0 * c * xe - bx) - c * dk * ee), c * (dk * bx - c * da * xx)
        dxx, dxe, dee = -c * c * da * ev, 2.0 * c * c * da * xv, c * (dd - c * dk * xv)
        de = a * dturn + dev * v + dxe * x + 2.0 * dee * e
        dx, dc_x = bx_vjp(dbx)
        dy, dc_y = by_vjp(dratio / bx + dd * bx)
        dx = dx + k * dturn + dxv * v + 2.0 * dxx * x + dxe * e - de
        slope = da * (4.0 * c * xe * xv - bx * xv - 2.0 * c * xx * ev) + dk * (bx * ev - 2.0 * c * ee * xv) + dd * ee
        return dx, de + dy, dz + dxv * x + dev * e, np.asarray(dc_x + dc_y + np.sum(slope))

    return ratio * z, vjp


def exp_and_carry(x, v, factor, c):
    """A step of an optimiser with momentum: y = exp_x(factor v) and not quite the border, and v carried along to y.

    Shapes: x, v (..., d), factor (..., 1), c () -> y, v' (..., d). No vjp: optimisers use it.
    """
    y, _ = project(exp_map(x, factor * v, c)[0], c)
    return y, parallel_transport(x, y, v, c)[0]


def mobius_scalar(r, x, c):
    """r (x) x = exp_0(r log_0(x)): r times as far from the origin (arXiv:1805.09112, eq. 3).

    Shapes: r (), x (..., d), c () -> (..., d);  vjp: dy -> dr, dx, dc.

    Backward: through both maps; w = r u gives dr = sum dw . u.
    """
    u, u_vjp = log_map_origin(x, c)
    y, y_vjp = exp_map_origin(r * u, c)

    def vjp(dy):
        dw, dc = y_vjp(dy)
        dx, dc_x = u_vjp(r * dw)
        return np.asarray(np.sum(dw * u)), dx, np.asarray(dc + dc_x)

    return y, vjp


def mobius_matvec(matrix, x, c):
    """M (x) x = exp_0(M log_0(x)): a linear map between balls (arXiv:1805.09112, eq. 27).

    Shapes: matrix M (o, i), x (..., i), c () -> (..., o);  vjp: dy -> dmatrix, dx, dc.

    Backward: through both maps; w = u M^T gives du = dw M and dM = dw^T u over all leading axes.
    """
    u, u_vjp = log_map_origin(x, c)
    y, y_vjp = exp_map_origin(u @ matrix.T, c)

    def vjp(dy):
        dw, dc = y_vjp(dy)
        dx, dc_x = u_vjp(dw @ matrix)
        rows = dw.reshape(-1, dw.shape[-1])
        return rows.T @ u.reshape(-1, u.shape[-1]), dx, np.asarray(dc + dc_x)

    return y, vjp


def squared_length(x, v, c):
    """lambda_x^2 ||v||^2 of vectors tangent at x. Shapes: x, v (..., d), c () -> (..., 1). No vjp: optimisers use it."""
    return 4.0 * _dot(v, v) / _gap(x, c)[0] ** 2


def riemannian_gradient(x, grad, c):
    """The direction of steepest ascent: the Euclidean gradient divided by the metric, grad / lambda_x^2.

    Shapes: x, grad (..., d), c () -> (..., d). No vjp: optimisers use it.
    """
    return 0.25 * _gap(x, c)[0] ** 2 * grad


def _gap(x, c):
    """B(x) = 1 - c ||x||^2, at least one roundoff, (..., 1);  vjp: dB -> dx = -2c dB x, dc = -sum dB ||x||^2."""
    square = _dot(x, x)
    gap, least = 1.0 - c * square, np.finfo(x.dtype).epsneg
    inside = gap.real >= least

    def vjp(dgap):
        dgap = np.where(inside, dgap, 0.0)
        return -2.0 * c * dgap * x, -np.sum(dgap * square)

    return np.where(inside, gap, least), vjp


def _stretched(v, c, function):
    """function(c ||v||^2) v;  vjp: dy -> dv, dc."""
    square = _dot(v, v)
    stretch, stretch_vjp = function(c * square)

    def vjp(dy):
        dt = stretch_vjp(_dot(dy, v))
        return stretch * dy + 2.0 * c * dt * v, np.asarray(np.sum(dt * square))

    return stretch * v, vjp


def _norm(x):
    """||x|| (..., 1), at least TINY."""
    n = np.sqrt(_dot(x, x))
    return np.where(n.real > TINY, n, TINY)


def _dot(x, y):
    return np.sum(x * y, axis=-1, keepdims=True)
