"""The Lorentz model of hyperbolic space, time first; every function reads space coordinates and makes times itself."""

import torch

from torch_impl.hyperbolic.radial import TINY, arc, asinhc, sinhc


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
    """Geodesic distance of two points, 2 asinh(sqrt(h)) / sqrt(c) with h of ``_Haversine``, or its square.

    Shapes: x, y (..., 1 + d) broadcast, c () -> (...).
    """
    return arc(_Haversine.apply(x, y, c), squared) / (c if squared else c**0.5)


def exp_map(x, v, c):
    """y = cosh(r) x + sinh(r) / r v, r = sqrt(c <v, v>) (arXiv:1806.03417, eq. 8), for v tangent at x.

    Shapes: x, v (..., 1 + d), c () -> (..., 1 + d).
    """
    space, way = _rows(x), _rows(v)
    t = c * _tangent_square(space, way, c)
    moved = space + t / 2 * sinhc(t / 4).square() * space + sinhc(t) * way
    return torch.cat(((moved.square().sum(0, keepdim=True) + 1 / c).sqrt(), moved)).movedim(0, -1).contiguous()


def log_map(x, y, c):
    """v = theta / sinh(theta) (y - cosh(theta) x), theta = sqrt(c) d(x, y) (arXiv:1806.03417, prop. 3).

    Shapes: x, y (..., 1 + d), c () -> (..., 1 + d).
    """
    h = _Haversine.apply(x, y, c).unsqueeze(-1)
    space = x[..., 1:]
    way = asinhc(h) / (1 + h).sqrt() * (y[..., 1:] - space - 2 * h * space)
    return _tangent(way, space, c)


def parallel_transport(x, y, v, c):
    """v' = v + c <y, v> / (1 - c <x, y>) (x + y), v tangent at x and v' at y (arXiv:1806.03417, eq. 9 with its y - x).

    <y, v> is computed as <y - x, v>, the times' difference from space coordinates.
    Shapes: x, y, v (..., 1 + d), c () -> (..., 1 + d).
    """
    start, end, way = x[..., 1:], y[..., 1:], v[..., 1:]
    time = _time(start, c)
    both = start + end
    v0 = (start * way).sum(-1, keepdim=True) / time
    product = ((end - start) * (way - v0 / (time + _time(end, c)) * both)).sum(-1, keepdim=True)
    return _tangent(way + c * product / (2 + 2 * _Haversine.apply(x, y, c).unsqueeze(-1)) * both, end, c)


def squared_length(x, v, c):
    """<v, v> of v tangent at x. ||v_s||^2 - (x_s . v_s)^2 / x_0^2 cancels far from the origin; as x_0^2 = 1 / c + n^2 with
    n = ||x_s||, it is (||v_s||^2 / c + ||n v_s - (x_s . v_s) x_s / n||^2) / x_0^2.

    Shapes: x, v (..., 1 + d), c () -> (..., 1).
    """
    return _tangent_square(_rows(x), _rows(v), c).unsqueeze(-1)


def riemannian_gradient(x, grad, c):
    """Tangent part of the gradient in the Lorentz metric: h + c <x, h> x, h = (-g_0, g_s).

    Shapes: x, grad (..., 1 + d), c () -> (..., 1 + d).
    """
    space = x[..., 1:]
    return _tangent(grad[..., 1:] + c * (x * grad).sum(-1, keepdim=True) * space, space, c)


def _tangent_square(space, way, c):
    """``squared_length`` of rows of space coordinates, (d, ...) -> (...)."""
    square = space.square().sum(0)
    n = square.clamp(min=TINY**2).sqrt()
    wedge = n * way - (space * way).sum(0) / n * space
    return (way.square().sum(0) / c + wedge.square().sum(0)) / (square + 1 / c)


def _rows(x):
    """Space coordinates first in memory, (d, ...): sums over them and factors of points then run along rows."""
    return x[..., 1:].movedim(-1, 0).contiguous()


def _tangent(way, space, c):
    """(v_0, v_s) with v_0 = x_s . v_s / x_0."""
    return torch.cat(((way * space).sum(-1, keepdim=True) / _time(space, c), way), -1)


def _time(space, c):
    return (_square(space) + 1 / c).sqrt()


def _square(v):
    return v.square().sum(-1, keepdim=True)


class _Haversine(torch.autograd.Function):
    """h = sinh(sqrt(c) d / 2)^2 of points (..., 1 + d), without a transcendental function.

    With S = sqrt(c) ||x_s|| = sinh(r) and C = sqrt(1 + S^2) = cosh(r), and with Q and K of y alike, the law of haversines
    (`tangent.py`) needs D = sinh(r - q), by a difference of squares, and the difference e of the directions:

        D = S K - C Q = (S^2 - Q^2) / (S K + C Q)        e = x_s / S - y_s / Q,    w = c ||e||^2
        h = (sqrt(1 + D^2) - 1) / 2 + S Q w / 4

    Backward. The radii's share of the gradient and the directions' fall into one:

        dx_s = (c / 2) dh (Q e + D / (C S) x_s)        dc = sum dh (S Q w + D^2 / (C K)) / (4 c)

    and dy_s is the same with x and y exchanged, where e and D change their signs. What e has along x_s is w / 2, but its
    rounding error may be as large as the gradient along x_s itself: ``stray`` takes it out.
    Coordinates come first in memory: sums over them are then sums of rows.
    """

    @staticmethod
    def forward(ctx, x, y, c):
        ctx.shapes, ctx.c = (x.shape, y.shape), c.detach() if torch.is_tensor(c) else c
        axes = max(x.dim(), y.dim())
        x, y = (_rows(v[(None,) * (axes - v.dim())]) for v in (x, y))
        squares = [v.square().sum(0).mul_(c) for v in (x, y)]
        S, Q = (v.sqrt().clamp_(min=TINY) for v in squares)
        C, K = ((v + 1).sqrt_() for v in squares)
        D = (squares[0] - squares[1]).div_((S * K).addcmul_(C, Q))
        e = (x / S).sub_(y / Q)
        w = e.square().sum(0).mul_(c)
        ctx.save_for_backward(x, y, e, S, Q, C, K, D, w)
        square = D * D
        return (S * Q).mul_(w).div_(4).addcdiv_(square, (square + 1).sqrt_().add_(1), value=0.5)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dh):
        x, y, e, S, Q, C, K, D, w = ctx.saved_tensors
        c, dx, dy, dc = ctx.c, None, None, None
        half = dh * (c / 2)
        stray = (x * e).sum(0).mul_(c).div_(S).sub_(w / 2)
        if ctx.needs_input_grad[0]:
            along = (D / C - Q * stray) / S
            dx = _with_no_time((e * (Q * half)).addcmul_(x, along * half), x, ctx.shapes[0])
        if ctx.needs_input_grad[1]:
            along = (S * stray - D / K) / Q
            dy = _with_no_time((e * (-S * half)).addcmul_(y, along * half), y, ctx.shapes[1])
        if ctx.needs_input_grad[2]:
            dc = (dh * (S * Q * w + D * D / (C * K))).sum() / (4 * c)
        return dx, dy, dc


def _with_no_time(gradient, space, shape):
    """The gradient (d, ...) of space coordinates as one of points of that shape."""
    points = gradient.new_empty(shape)
    points[..., :1] = 0
    points[..., 1:] = gradient.sum_to_size(space.shape).movedim(0, -1).reshape(*shape[:-1], -1)
    return points
