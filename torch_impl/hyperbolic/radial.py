"""sinh(r) / r and its relatives as functions of t = r^2, with slopes that keep their digits at t = 0; haversines."""

import math

import torch

TORCH_ONLY = {"sinhc_slope", "asinhc_slope"}

TINY = 1e-18  # what norms are at least: below it, directions mean nothing

_SLOPE = [k / math.factorial(2 * k + 1) for k in range(1, 11)]  # power series of sinhc's derivative
_LEAST = 1e-30  # of t where it is divided by: its root is exact, and f(r) / r is 1


def sinhc(t):
    """sinh(sqrt(t)) / sqrt(t), t >= 0. Shapes: (...) -> (...)."""
    return _Sinhc.apply(t)


def asinhc(t):
    """asinh(sqrt(t)) / sqrt(t), t >= 0. Shapes: (...) -> (...)."""
    return _Asinhc.apply(t)


def tanhc(t):
    """tanh(sqrt(t)) / sqrt(t), t >= 0. Shapes: (...) -> (...)."""
    return _Tanhc.apply(t)


def atanhc(t):
    """atanh(sqrt(t)) / sqrt(t), 0 <= t < 1; constant from the last number below 1 on. Shapes: (...) -> (...)."""
    return _Atanhc.apply(t.clamp(max=1 - torch.finfo(t.dtype).eps / 2))


def arc(h, squared=False):
    """theta = 2 asinh(sqrt(h)), the angle with sinh(theta / 2)^2 = h, or its square (R. W. Sinnott, "Virtues of the
    haversine", 1984, on a sphere of imaginary radius).

    Shapes: h >= 0 (...) -> (...). The gradient of theta at h = 0 is 0; its square is smooth there.
    """
    return 4 * h * asinhc(h).square() if squared else _Arc.apply(h)


def _asinh(r, square):
    """asinh(r) of r >= 0 with its square: log1p(r + r^2 / (1 + sqrt(1 + r^2))), where nothing cancels.

    PyTorch's own asinh of a CPU calls the C library for every number: it takes many times as long.
    """
    return (square / (1 + (1 + square).sqrt())).add_(r).log1p_()


def sinhc_slope(t, cosh, y):
    """(cosh(r) - y) / (2 t); near 0, where that cancels, as many terms of the series as the format has digits for.

    Shapes: t, cosh(sqrt(t)), y = sinhc(t) (...) -> (...).
    """
    terms = 9 if t.dtype == torch.float64 else 5
    series = t * _SLOPE[terms - 1]
    for coefficient in reversed(_SLOPE[1 : terms - 1]):
        series.add_(coefficient).mul_(t)
    return torch.where(t < 1, series.add_(_SLOPE[0]), (cosh - y).div_(t).mul_(0.5))


def asinhc_slope(t, y):
    """-sinhc'(a^2) y^3 / sqrt(1 + t) with a = asinh(sqrt(t)), as y = asinhc(t) = a / sinh(a) = 1 / sinhc(a^2).

    Shapes: t, y (...) -> (...).
    """
    cosh, square = (1 + t).sqrt_(), y * y
    return sinhc_slope(square * t, cosh, y.reciprocal()).mul_(square).mul_(y).div_(cosh).neg_()


def _tanhc_slope(t, r, y):
    """The slope of sinhc / cosh near 0, else (1 - tanh^2 - y) / (2 t)."""
    near = t < 1
    r = torch.where(near, r, 1)
    cosh, s = r.cosh(), r.sinh() / r
    return torch.where(near, (sinhc_slope(t.clamp(max=1), cosh, s) - y * s / 2) / cosh, (1 - t * y * y - y) / (2 * t))


class _Sinhc(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        t = t.clamp(min=_LEAST)
        r = t.sqrt()
        y = r.sinh() / r
        ctx.save_for_backward(t, r, y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        t, r, y = ctx.saved_tensors
        return dy * sinhc_slope(t, r.cosh(), y)


class _Asinhc(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        t = t.clamp(min=_LEAST)
        r = t.sqrt()
        y = _asinh(r, t).div_(r)
        ctx.save_for_backward(t, y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        return dy * asinhc_slope(*ctx.saved_tensors)


class _Tanhc(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        t = t.clamp(min=_LEAST)
        r = t.sqrt()
        y = r.tanh() / r
        ctx.save_for_backward(t, r, y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        return dy * _tanhc_slope(*ctx.saved_tensors)


class _Atanhc(torch.autograd.Function):
    """y = a / tanh(a) with sinh(a)^2 = t / (1 - t), which is exact up to the border; dy/dt = -tanhc'(a^2) y^3 / (1 - t)."""

    @staticmethod
    def forward(ctx, t):
        t = t.clamp(min=_LEAST)
        square = t / (1 - t)
        a = _asinh(square.sqrt(), square)
        y = a / t.sqrt()
        ctx.save_for_backward(t, a, y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        t, a, y = ctx.saved_tensors
        return -dy * _tanhc_slope(a * a, a, 1 / y) * y**3 / (1 - t)


class _Arc(torch.autograd.Function):
    """dtheta/dh = 1 / sqrt(h (1 + h)): a product in the backward pass instead of a chain through sqrt and asinh."""

    @staticmethod
    def forward(ctx, h):
        h = h.clamp(min=0)
        root = h.sqrt()
        ctx.save_for_backward(h, root)
        return _asinh(root, h).mul_(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        h, root = ctx.saved_tensors
        return torch.where(h > 0, dy / (root * (1 + h).sqrt()), 0)
