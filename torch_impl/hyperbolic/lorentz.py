"""The Lorentz model of hyperbolic space, time first; every function reads space coordinates and makes times itself."""

import torch

from torch_impl.hyperbolic import tangent
from torch_impl.hyperbolic.radial import TINY, asinhc, sinhc


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
    """Geodesic distance of two points, or its square, by their tangent vectors at the origin.

    Shapes: x, y (..., 1 + d) broadcast, c () -> (...).
    """
    return tangent.distance(log_map_origin(x, c), log_map_origin(y, c), c, squared)


def exp_map(x, v, c):
    """y = cosh(r) x + sinh(r) / r v, r = sqrt(c <v, v>) (arXiv:1806.03417, eq. 8), for v tangent at x.

    Shapes: x, v (..., 1 + d), c () -> (..., 1 + d).
    """
    space, way = x[..., 1:], v[..., 1:]
    t = c * squared_length(x, v, c)
    return lift(space + t / 2 * sinhc(t / 4).square() * space + sinhc(t) * way, c)


def log_map(x, y, c):
    """v = theta / sinh(theta) (y - cosh(theta) x), theta = sqrt(c) d(x, y) (arXiv:1806.03417, prop. 3).

    Shapes: x, y (..., 1 + d), c () -> (..., 1 + d).
    """
    h = _haversine(x, y, c)
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
    return _tangent(way + c * product / (2 + 2 * _haversine(x, y, c)) * both, end, c)


def squared_length(x, v, c):
    """<v, v> of v tangent at x. ||v_s||^2 - (x_s . v_s)^2 / x_0^2 cancels far from the origin; as x_0^2 = 1 / c + n^2 with
    n = ||x_s||, it is (||v_s||^2 / c + ||n v_s - (x_s . v_s) x_s / n||^2) / x_0^2.

    Shapes: x, v (..., 1 + d), c () -> (..., 1).
    """
    space, way = x[..., 1:], v[..., 1:]
    n = _norm(space)
    wedge = n * way - (space * way).sum(-1, keepdim=True) / n * space
    return (way.square() / c + wedge.square()).sum(-1, keepdim=True) / _time(space, c).square()


def riemannian_gradient(x, grad, c):
    """Tangent part of the gradient in the Lorentz metric: h + c <x, h> x, h = (-g_0, g_s).

    Shapes: x, grad (..., 1 + d), c () -> (..., 1 + d).
    """
    space = x[..., 1:]
    return _tangent(grad[..., 1:] + c * (x * grad).sum(-1, keepdim=True) * space, space, c)


def _tangent(way, space, c):
    """(v_0, v_s) with v_0 = x_s . v_s / x_0."""
    return torch.cat(((way * space).sum(-1, keepdim=True) / _time(space, c), way), -1)


def _haversine(x, y, c):
    return tangent.haversine(log_map_origin(x, c), log_map_origin(y, c), c).unsqueeze(-1)


def _time(space, c):
    return (_square(space) + 1 / c).sqrt()


def _square(v):
    return v.square().sum(-1, keepdim=True)


def _norm(v):
    return torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=TINY)
