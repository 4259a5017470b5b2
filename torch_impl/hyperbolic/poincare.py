"""The Poincare ball of curvature -c, in the conventions of arXiv:1805.09112; B(x) = 1 - c ||x||^2."""

import torch

from torch_impl.hyperbolic.radial import TINY, arc, asinhc, atanhc, tanhc

_BORDER = 1e-5  # how far inside of it points stay, of the radius


def conformal_factor(x, c):
    """lambda_x = 2 / B(x). Shapes: x (..., d), c () -> (..., 1)."""
    return 2 / _gap(x, c)


def project(x, c, eps=_BORDER):
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
    ``haversine`` h, r = sqrt(h / (1 + h)). The denominator of w is B(x) B(y) (1 + h), so that with e = y - x

        v = asinhc(h) / (B(y) sqrt(1 + h)) (B(x) e - c ||e||^2 x)

    Shapes: x, y (..., d), c () -> (..., d).
    """
    e, bx, by = y - x, _gap(x, c), _gap(y, c)
    q = c * _square(e)
    h = q / (bx * by)
    factor = asinhc(h) / (by * (1 + h).sqrt())
    return factor * bx * e - factor * q * x


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
    return _transported(x, y - x, v, _gap(x, c), _gap(y, c), _square(x), (x * v).sum(-1, keepdim=True), c)


def _transported(x, e, v, bx, by, xx, xv, c):
    """``parallel_transport`` by e = y - x, of which B(x), B(y), ||x||^2 and x . v are known already."""
    ev, ee = (e * v).sum(-1, keepdim=True), _square(e)
    turn = 2 * c / (bx * by + c * ee)
    along = turn * (2 * c * (x * e).sum(-1, keepdim=True) * xv - bx * xv - c * xx * ev)
    beside = turn * (bx * ev - c * ee * xv)
    return by / bx * torch.addcmul(v, along, e).addcmul_(beside, x)


def exp_and_carry(x, v, factor, c):
    """(y, v') with y = ``project`` of exp_x(factor v) and v carried to it by ``parallel_transport``.

    The two share what they need: with z = factor tanhc v / B(x) of ``exp_map``, s = x + z and
    D = B(x) B(z) + c ||s||^2 of ``mobius_add``,

        y = (B(x) s + c ||s||^2 x) / D        B(y) = B(x) B(z) / D

    Shapes: x, v (..., d), factor (..., 1), c () -> (..., d), (..., d). Optimisers use it.
    """
    xx, xv, vv, least = _square(x), (x * v).sum(-1, keepdim=True), _square(v), torch.finfo(x.dtype).eps / 2
    bx = (1 - c * xx).clamp_(min=least)
    way = factor / bx
    way = tanhc(c * vv * way * way) * way  # z = way v
    bz = (1 - c * way * way * vv).clamp_(min=least)
    s = torch.addcmul(x, way, v)
    q = c * _square(s)
    over = bx / (bx * bz + q)
    turned = q * over / bx
    y = (over * s).addcmul_(turned, x)
    n, largest = _norm(y), (1 - _BORDER) / c**0.5
    outside = n > largest
    back = torch.where(outside, largest / n, 1.0)
    by = (over * bz).clamp_(min=least).masked_fill_(outside, _BORDER * (2 - _BORDER))
    y = back * y
    return y, _transported(x, y - x, v, bx, by, xx, xv, c)


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
