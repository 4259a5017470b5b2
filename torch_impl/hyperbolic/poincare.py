"""The Poincare ball of curvature -c, in the conventions of arXiv:1805.09112; B(x) = 1 - c ||x||^2."""

import torch

from torch_impl.hyperbolic.radial import TINY, arc, asinhc, atanhc, tanhc


def conformal_factor(x, c):
    """lambda_x = 2 / B(x). Shapes: x (..., d), c () -> (..., 1)."""
    return 2 / _gap(x, c)


def project(x, c, eps=1e-5):
    """Points beyond the radius (1 - eps) / sqrt(c) are drawn back to it. Shapes: x (..., d), c () -> (..., d)."""
    n, largest = _norm(x), (1 - eps) / c**0.5
    return torch.where(n > largest, x * (largest / n), x)


def mobius_add(x, y, c):
    """x (+) y = (B(x) s + q x) / (B(x) B(y) + q) with s = x + y and q = c ||s||^2: eq. 2 with its terms collected so that
    none cancels where y is near -x.

    Shapes: x, y (..., d), c () -> (..., d).
    """
    s = x + y
    q, gap = c * _square(s), _gap(x, c)
    return (gap * s + q * x) / (gap * _gap(y, c) + q)


def exp_map_origin(v, c):
    """tanh(r) / r v, r = sqrt(c) ||v||. Shapes: v (..., d), c () -> (..., d)."""
    return tanhc(c * _square(v)) * v


def log_map_origin(x, c):
    """atanh(r) / r x, r = sqrt(c) ||x||, finite at the border, too. Shapes: x (..., d), c () -> (..., d)."""
    return atanhc(c * _square(x)) * x


def exp_map(x, v, c):
    """x (+) exp_0(v / B(x)), lemma 2. Shapes: x, v (..., d), c () -> (..., d)."""
    return mobius_add(x, exp_map_origin(v / _gap(x, c), c), c)


def log_map(x, y, c):
    """B(x) atanh(r) / r w, w = (-x) (+) y, r = sqrt(c) ||w||; as tanh(d / 2) saturates, atanh(r) = asinh(sqrt(h)) with the
    ``haversine`` h, r = sqrt(h / (1 + h)). Shapes: x, y (..., d), c () -> (..., d).
    """
    h = haversine(x, y, c).unsqueeze(-1)
    return _gap(x, c) * asinhc(h) * (1 + h).sqrt() * mobius_add(-x, y, c)


def haversine(x, y, c):
    """sinh(sqrt(c) d / 2)^2 = c ||x - y||^2 / (B(x) B(y)). Shapes: x, y (..., d) broadcast, c () -> (...)."""
    return (c * _square(x - y) / (_gap(x, c) * _gap(y, c))).squeeze(-1)


def distance(x, y, c, squared=False):
    """2 asinh(sqrt(h)) / sqrt(c), or its square. Shapes: x, y (..., d) broadcast, c () -> (...)."""
    return arc(haversine(x, y, c), squared) / (c if squared else c**0.5)


def parallel_transport(x, y, v, c):
    """lambda_x / lambda_y gyr[y, -x] v, the gyration in closed form (A. Ungar 2008), sorted by powers of y - x.

    Shapes: x, y, v (..., d), c () -> (..., d).
    """
    bx, by, e = _gap(x, c), _gap(y, c), y - x
    xv, ev, ee = (x * v).sum(-1, keepdim=True), (e * v).sum(-1, keepdim=True), _square(e)
    a = 2 * c * (x * e).sum(-1, keepdim=True) * xv - bx * xv - c * _square(x) * ev
    turn = a * e + (bx * ev - c * ee * xv) * x
    return by / bx * (v + 2 * c / (bx * by + c * ee) * turn)


def mobius_scalar(r, x, c):
    """exp_0(r log_0(x)). Shapes: r (), x (..., d), c () -> (..., d)."""
    return exp_map_origin(r * log_map_origin(x, c), c)


def mobius_matvec(matrix, x, c):
    """exp_0(M log_0(x)). Shapes: matrix (o, i), x (..., i), c () -> (..., o)."""
    return exp_map_origin(log_map_origin(x, c) @ matrix.mT, c)


def squared_length(x, v, c):
    """lambda_x^2 ||v||^2. Shapes: x, v (..., d), c () -> (..., 1)."""
    return _square(v) * (2 / _gap(x, c)).square()


def riemannian_gradient(x, grad, c):
    """grad / lambda_x^2. Shapes: x, grad (..., d), c () -> (..., d)."""
    return grad * (_gap(x, c) / 2).square()


def _gap(x, c):
    return (1 - c * _square(x)).clamp(min=torch.finfo(x.dtype).eps / 2)


def _square(x):
    return x.square().sum(-1, keepdim=True)


def _norm(x):
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=TINY)
