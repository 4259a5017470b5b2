"""Normalisation."""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def layer_norm(x, weight, bias=None, eps=1e-5):
    """Layer norm (arXiv:1607.06450, eq. 4): zero mean and unit variance over the last axis, then scale and shift.

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Shapes: x (..., d), weight (d,), bias (d,) -> y (..., d). One fused call; moments are computed in float32 or better.

    In 16 bits PyTorch's CPU kernel sums the gradients of weight and bias row by row in 16 bits: a sum of 4096 equal
    terms stops growing at 256 of them. In float32 it is exact and no slower, so there the call runs in float32.
    """
    if x.itemsize == 2 and x.device.type == "cpu":
        bias = None if bias is None else bias.float()
        return F.layer_norm(x.float(), weight.shape, weight.float(), bias, eps).to(x.dtype)
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def rms_norm(x, weight, eps=1e-6):
    """RMS norm (arXiv:1910.07467, eq. 4): divides by the root mean square over the last axis, without centring.

        y = x / sqrt(mean(x^2) + eps) * weight

    Shapes: x (..., d), weight (d,) -> y (..., d). 16-bit inputs are computed in float32 and rounded once, as above.

    PyTorch has no fused kernel of it for CPUs, where autograd goes over the array some thirty times; `_RmsNorm` needs
    half of that. The compiler fuses better still.
    """
    if x.itemsize == 2 and x.device.type == "cpu":
        if torch.compiler.is_compiling():
            return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)
        return _RmsNorm.apply(x, weight, eps)
    return F.rms_norm(x, weight.shape, weight, eps)


class _RmsNorm(torch.autograd.Function):
    """``rms_norm`` in float32 with n = x / r, by hand: dx = (dn - n mean(dn n)) / r with dn = dy weight, dweight =
    sum(dy n) over the rows."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        wide, scale = x.float(), weight.float()
        inverse = (wide.square().mean(-1, keepdim=True) + eps).rsqrt_()
        n = wide * inverse
        ctx.save_for_backward(n, inverse, scale)
        ctx.dtypes = x.dtype, weight.dtype
        return (n * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        n, inverse, scale = ctx.saved_tensors
        dy = dy.float()
        products = dy * n
        slope = (products @ scale).unsqueeze(-1) / n.shape[-1]
        dx = torch.addcmul(dy * scale, n, slope, value=-1).mul_(inverse)
        return dx.to(ctx.dtypes[0]), products.reshape(-1, len(scale)).sum(0).to(ctx.dtypes[1]), None


def norm(x, params, kind, eps):
    """The norm called ``kind``, "layer" or "rms", with "weight" and perhaps "bias" from params. (..., d) -> (..., d)."""
    if kind == "rms":
        return rms_norm(x, params["weight"], eps)
    return layer_norm(x, params["weight"], params.get("bias"), eps)
