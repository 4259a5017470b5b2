"""The Lorentz model of hyperbolic space, time first; every function reads space coordinates and makes times itself."""

import torch

from torch_impl.hyperbolic.radial import TINY, arc, asinhc, asinhc_slope, sinhc, sinhc_slope



def lift(space, c):
    """x = (sqrt(1 / c + ||s||^2), s). Shapes: space (..., d), c () -> (..., 1 + d)."""
    return torch.cat((_time(space, c), space), -1)


def project(x, c):
    """The point with the same space coordinates. Shapes: x (..., 1 + d), c () -> (..., 1 + d)."""
    return lift(x[..., 1:], c)


def inner(x, y):
    """<x, y> = x . y - 2 x_0 y_0. Shapes: x, y (..., 1 + d) -> (...)."""
    product = x * y
    return product[..., 1:].sum(-1) - product[..., 0]


def exp_map_origin(v, c):
    """x_s = sinh(r) / r v with r = sqrt(c) ||v|| (arXiv:1806.03417, prop. 1, at the origin).

    Shapes: v (..., d), c () -> (..., 1 + d).
    """
    return lift(sinhc(c * _square(v)) * v, c)


def log_map_origin(x, c):
    """v = asinh(r) / r x_s with r = sqrt(c) ||x_s||. Shapes: x (..., 1 + d), c () -> (..., d)."""
    space = x[..., 1:]
    return asinhc(c * _square(space)) * space


def distance(x, y, c, squared=False):
    """Geodesic distance of two points, 2 asinh(sqrt(h)) / sqrt(c) with h of ``_apart``, or its square.

    Shapes: x, y (..., 1 + d) broadcast, c () -> (...).
    """
    if squared:
        return arc(_Haversine.apply(x, y, c), squared) / c
    return _Distance.apply(x, y, c)


def exp_map(x, v, c):
    """y = cosh(r) x + sinh(r) / r v, r = sqrt(c <v, v>) (arXiv:1806.03417, eq. 8), for v tangent at x.

    Shapes: x, v (..., 1 + d), c () -> (..., 1 + d).
    """
    return _ExpMap.apply(x, v, c)


def log_map(x, y, c):
    """v = theta / sinh(theta) (y - cosh(theta) x), theta = sqrt(c) d(x, y) (arXiv:1806.03417, prop. 3).

    Shapes: x, y (..., 1 + d), c () -> (..., 1 + d).
    """
    return _LogMap.apply(x, y, c)


def parallel_transport(x, y, v, c):
    """v' = v + c <y, v> / (1 - c <x, y>) (x + y), v tangent at x and v' at y (arXiv:1806.03417, eq. 9 with its y - x).

    <y, v> is computed as <y - x, v>, the times' difference from space coordinates.
    Shapes: x, y, v (..., 1 + d), c () -> (..., 1 + d).
    """
    start, end, way = x[..., 1:], y[..., 1:], v[..., 1:]
    time = _time(start, c)
    both = start + end
    v0 = _dot(start, way) / time
    product = _dot(end - start, way - v0 / (time + _time(end, c)) * both)
    moved = way + c * product / (2 + 2 * _Haversine.apply(x, y, c).unsqueeze(-1)) * both
    return _tangent(moved, end, c)


def exp_and_carry(x, v, factor, c):
    """(y, v') with y = exp_x(factor v) and v carried along to y: the geodesic's own direction needs no general transport.

        y = cosh(r) x + factor sinh(r) / r v        v' = cosh(r) v + c factor <v, v> sinh(r) / r x,    r = |factor| sqrt(c <v, v>)

    Shapes: x, v (..., 1 + d), factor (..., 1), c () -> (..., 1 + d), (..., 1 + d). Optimisers use it.
    """
    space, way = x[..., 1:], v[..., 1:]
    k, _, square = _across(space, way, c)
    square = (square * c).addcmul_(k, k)  # c <v, v>
    t = square * factor * factor
    stretch = sinhc(t).mul_(factor)
    rise = _rise(stretch * stretch * square)
    moved = torch.addcmul(space, rise, space).addcmul_(stretch, way)
    carried = torch.addcmul(way, rise, way).addcmul_(stretch * square, space)
    return lift(moved, c), _tangent(carried, moved, c)


def squared_length(x, v, c):
    """<v, v> of v tangent at x, the sum of squares of ``_across``.

    Shapes: x, v (..., 1 + d), c () -> (..., 1).
    """
    k, _, square = _across(x[..., 1:], v[..., 1:], c)
    return square + k * k / c


def riemannian_gradient(x, grad, c):
    """Tangent part of the gradient in the Lorentz metric: h + c <x, h> x, h = (-g_0, g_s).

    Shapes: x, grad (..., 1 + d), c () -> (..., 1 + d).
    """
    space = x[..., 1:]
    return _tangent(torch.addcmul(grad[..., 1:], c * _dot(x, grad), space), space, c)


def _across(space, way, c):
    """(k, z, ||z||^2) of a vector tangent at a point, from space coordinates.

    ||v_s||^2 - v_0^2 cancels far from the origin. With k = x_s . v_s / x_0^2 and z = v_s - k x_s it is a sum of squares:

        <v, v> = ||z||^2 + k^2 / c
    """
    k = _dot(space, way) / (_square(space) + 1 / c)
    z = torch.addcmul(way, k, space, value=-1)
    return k, z, _square(z)


def _apart(x, y, c):
    """h = sinh(sqrt(c) d / 2)^2 of points, from space coordinates, and what its derivative needs, (..., 1).

    With n = ||x_s||, t = x_0, m and s those of y, and g = x_s - (n / m) y_s, which is n times the difference of the
    directions, the law of haversines (`tangent.py`) has no transcendental function and no difference but n - m and g:

        h = (n - m)^2 / (2 (1 / c + t s + n m)) + (c / 4) (m / n) ||g||^2

    as sinh((r - q) / 2) = (sinh(r) - sinh(q)) / (2 cosh((r + q) / 2)).
    """
    n, m = (torch.linalg.vector_norm(space, dim=-1, keepdim=True).clamp_(min=TINY) for space in (x, y))
    t, s = ((length * length).add_(1 / c).sqrt_() for length in (n, m))
    ratio = n / m
    g = torch.addcmul(x, y, ratio, value=-1)
    turn = torch.linalg.vector_norm(g, dim=-1, keepdim=True).square_().div_(ratio).mul_(c / 4)
    h = turn.addcdiv((n - m).square_(), (t * s).addcmul_(n, m).add_(1 / c), value=0.5)
    return h, (n, t, m, s, ratio, g, turn)


def _pulls(dh, x, c, n, t, m, s, ratio, g, turn):
    """For dh of ``_apart``: the factors of g and x_s in the gradient of x_s, and those of g and y_s in that of y_s.

        dx_s = (dh / 2) (c m / n g + D / (t n) x_s)        dy_s = -(dh / 2) (c g + D / (s m) y_s)
        D = sinh(r - q) = (n^2 - m^2) / (n s + m t)

    What g / n has along x_s is half its square, but its rounding error may be as large as the whole gradient along x_s:
    ``stray`` takes it out.
    """
    half = dh * 0.5
    stray = (_dot(x, g) * c).div_(ratio).sub_(turn, alpha=2)  # c n m (u . g / n - ||g / n||^2 / 2) with u = x_s / n
    rate = ((n - m) * (n + m)).div_((n * s).addcmul_(m, t))
    along = (rate / t).sub_(stray / n).div_(n).mul_(half)
    aside = (stray / m).sub_(rate / s).div_(m).mul_(half)
    back = half.mul_(-c)
    return (-back / ratio, along), (back, aside)


def _curvature_pull(dh, c, n, t, m, s, turn):
    """The gradient of c: sum dh (turn + D^2 / (4 c t s)) / c."""
    rate = (n - m) * (n + m) / (n * s + m * t)
    return (dh * (turn + rate.square() / (4 * c * t * s))).sum() / c


class _Haversine(torch.autograd.Function):
    """h of ``_apart`` for points (..., 1 + d), broadcast."""

    @staticmethod
    def forward(ctx, x, y, c):
        ctx.c = _constant(c)
        h, known = _apart(x[..., 1:], y[..., 1:], c)
        ctx.save_for_backward(x, y, *known)
        return h.squeeze(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dh):
        return _haversine_gradients(ctx, dh.unsqueeze(-1), *ctx.saved_tensors)


class _Distance(torch.autograd.Function):
    """theta / sqrt(c) with theta = log1p(2 (h + sqrt(h (1 + h)))), and so dtheta = dh / sqrt(h (1 + h)).

    For equal points, where that is infinite, h's own gradient is 0: any finite number in its place gives 0.
    """

    @staticmethod
    def forward(ctx, x, y, c):
        ctx.c = _constant(c)
        h, known = _apart(x[..., 1:], y[..., 1:], c)
        root, cosh = h.sqrt(), h.add_(1).sqrt_()
        distance = (root + cosh).mul_(root).mul_(2).log1p_().div_(c**0.5)
        ctx.save_for_backward(x, y, *known, root, cosh, distance)
        return distance.squeeze(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dd):
        *known, root, cosh, distance = ctx.saved_tensors
        dd = dd.unsqueeze(-1)
        dx, dy, dc = _haversine_gradients(ctx, dd / (root * cosh).clamp_(min=TINY).mul_(ctx.c**0.5), *known)
        return dx, dy, dc if dc is None else dc - (dd * distance).sum() / (2 * ctx.c)


def _haversine_gradients(ctx, dh, x, y, *known):
    """(dx, dy, dc) of points (..., 1 + d) for dh (..., 1)."""
    n, t, m, s, _, g, turn = known
    pulls, grads = _pulls(dh, x[..., 1:], ctx.c, *known), [None, None, None]
    for i, (point, (across, along)) in enumerate(zip((x, y), pulls)):
        if ctx.needs_input_grad[i]:
            grads[i], space = _with_no_time(g, dh)
            torch.mul(g, across, out=space).addcmul_(point[..., 1:], along)
            grads[i] = grads[i].sum_to_size(point.shape)
    if ctx.needs_input_grad[2]:
        grads[2] = _curvature_pull(dh, ctx.c, n, t, m, s, turn)
    return tuple(grads)


class _ExpMap(torch.autograd.Function):
    """Forward and backward of ``exp_map`` as `numpy_ref` derives them, with z and k of ``_across`` for its wedge."""

    @staticmethod
    def forward(ctx, x, v, c):
        ctx.c = _constant(c)
        k, z, square = _across(x[..., 1:], v[..., 1:], c)
        t = (square * c).addcmul_(k, k)
        stretch = sinhc(t)
        rise = _rise((stretch * stretch).mul_(t))
        y = torch.addcmul(x, rise, x).addcmul_(stretch, v)
        y[..., :1] = _time(y[..., 1:], c)
        ctx.save_for_backward(x, v, z, k, square, t, stretch, rise, y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        x, v, z, k, square, t, stretch, rise, y = ctx.saved_tensors
        c, share = ctx.c, dy[..., :1] / y[..., :1]
        ds = torch.addcmul(dy[..., 1:], share, y[..., 1:])
        dt = _dot(ds, v[..., 1:]).mul_(sinhc_slope(t, 1 + rise, stretch)).addcmul_(_dot(ds, x[..., 1:]), stretch, value=0.5)
        (dx, dxs), (dv, dvs) = _with_no_time(ds, t), _with_no_time(ds, t)
        across = z * (2 * c * dt)
        torch.addcmul(ds, ds, rise, out=dxs).addcmul_(across, k, value=-1)
        torch.addcmul(across, ds, stretch, out=dvs)
        dc = (dt * square).sum() - share.sum() / (2 * c * c) if ctx.needs_input_grad[2] else None
        return dx, dv, dc


class _LogMap(torch.autograd.Function):
    """v_s = f (y_s - x_s - 2 h x_s), f = asinhc(h) / sqrt(1 + h); the backward is that of `numpy_ref`, but for its h."""

    @staticmethod
    def forward(ctx, x, y, c):
        ctx.c, start = _constant(c), x[..., 1:]
        h, known = _apart(start, y[..., 1:], c)
        ratio = asinhc(h)
        factor = ratio / (1 + h).sqrt_()
        v = (y - x).addcmul_(h, x, value=-2).mul_(factor)
        torch.div(_dot(v[..., 1:], start), known[1], out=v[..., :1])
        ctx.save_for_backward(x, y, v, h, ratio, factor, *known)
        return v

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dv):
        x, y, v, h, ratio, factor, *known = ctx.saved_tensors
        n, t, m, s, _, g, turn = known
        c, share, start, way = ctx.c, dv[..., :1] / t, x[..., 1:], v[..., 1:]
        rest = share * v[..., :1] / t
        dw = torch.addcmul(dv[..., 1:], share, start)
        slope = asinhc_slope(h, ratio).div_(ratio).sub_((1 + h).reciprocal_().mul_(0.5))  # df / f
        dh = _dot(dw, way).mul_(slope).addcmul_(_dot(dw, start), factor, value=-2)
        dw.mul_(factor)
        (across, along), (back, aside) = _pulls(dh, start, c, *known)
        (dx, dxs), (dy, dys) = _with_no_time(g, h), _with_no_time(g, h)
        torch.mul(g, across, out=dxs).addcmul_(start, along.sub_(rest)).addcmul_(way, share).sub_(dw).addcmul_(dw, h, value=-2)
        torch.addcmul(dw, g, back, out=dys).addcmul_(y[..., 1:], aside)
        dc = _curvature_pull(dh, c, n, t, m, s, turn) + rest.sum() / (2 * c * c) if ctx.needs_input_grad[2] else None
        return dx, dy, dc


def _with_no_time(space, like):
    """A gradient (..., 1 + d) whose time is 0, and its space coordinates, to be filled in. Shapes: space (..., d)."""
    gradient = space.new_empty((*like.shape[:-1], space.shape[-1] + 1))
    gradient[..., :1] = 0
    return gradient, gradient[..., 1:]


def _rise(square):
    """cosh(r) - 1 = sinh(r)^2 / (1 + cosh(r)), from the square of sinh(r)."""
    return square / (square + 1).sqrt_().add_(1)


def _constant(c):
    return c.detach() if torch.is_tensor(c) else c


def _tangent(way, space, c):
    """(v_0, v_s) with v_0 = x_s . v_s / x_0."""
    return torch.cat((_dot(way, space) / _time(space, c), way), -1)


def _time(space, c):
    return (_square(space) + 1 / c).sqrt()


def _square(v):
    return v.square().sum(-1, keepdim=True)


def _dot(x, y):
    return (x * y).sum(-1, keepdim=True)
