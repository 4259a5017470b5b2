"""Linear maps whose matrix products run in 8 bits, on GPUs that can (Hopper and newer)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from numpy_ref.config import is_router
from numpy_ref.errors import UserError

TORCH_ONLY = {"require_float8"}

_E4M3, _E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


@dataclass(frozen=True)
class Float8:
    """A weight that ``linear`` multiplies in 8 bits. The tensor itself keeps its format, and gets the gradient."""

    values: torch.Tensor


def float8_params(params):
    """Parameters with every matrix inside the blocks wrapped in ``Float8``: that is where the arithmetic is."""


    def inner_matrix(name, value):
        return name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2 and not is_router(name)

    return {name: Float8(value) if inner_matrix(name, value) else value for name, value in params.items()}


def require_float8(device, params):
    """Raise UserError unless the device multiplies in 8 bits and every matrix inside the blocks has sides it takes."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the {device.type}"
        raise UserError(
            f"float8 needs an NVIDIA GPU of the Hopper generation or newer, and {name} is none; train with "
            "--no-float8 --dtype bfloat16"
        )
    for name, param in float8_params(params).items():
        if isinstance(param, Float8) and any(side % 16 for side in param.values.shape):
            sides = " x ".join(map(str, param.values.shape))
            raise UserError(f"float8 needs matrices whose sides are multiples of 16, and {name} is {sides}")


def float8_linear(x, weight, bias=None):
    """y = x weight^T + bias, product in float8 with one scale for each tensor (arXiv:2209.05433).

    x and weight are scaled to the largest e4m3 number and rounded; so are gradients, to e5m2. Rounding passes gradients
    straight through. Shapes: x (..., i), weight (o, i), bias (o,)? -> (..., o), in the format of x. Where the hardware
    can't, the same numbers are multiplied in float32 (or float64): slow, and for tests.
    """
    y = _Float8Product.apply(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], len(weight))
    return y if bias is None else y + bias


class _Float8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        rows, rows_scale = _quantized(x, _E4M3)
        matrix, matrix_scale = _quantized(weight, _E4M3)
        ctx.save_for_backward(rows, rows_scale, matrix, matrix_scale)
        return _product(rows, rows_scale, matrix.mT, matrix_scale, x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        rows, rows_scale, matrix, matrix_scale = ctx.saved_tensors
        steps, steps_scale = _quantized(dy, _E5M2)
        dx = _product(steps, steps_scale, matrix, matrix_scale, dy.dtype)
        return dx, _product(steps.mT, steps_scale, rows, rows_scale, dy.dtype)


def _quantized(x, dtype):
    """(x scale in 8 bits, 1 / scale in float32), where the scale takes max|x| to the largest number of the format."""
    x, largest = x.float(), torch.finfo(dtype).max
    most = x.abs().amax() if x.numel() else x.new_zeros(())
    # A number over a tensor would be rounded twice: PyTorch multiplies it by the reciprocal.
    scale = torch.where(most > 0, torch.full_like(most, largest) / most, 1.0).clamp(max=torch.finfo(torch.float32).max)
    return (x * scale).clamp(-largest, largest).to(dtype), scale.reciprocal()


def _product(left, left_scale, right, right_scale, dtype):
    """left (m, k) times right (k, n), both in 8 bits, times both scales."""
    if left.is_cuda:
        return _hopper_product(left, left_scale, right, right_scale, dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return ((left.to(wide) @ right.to(wide)) * (left_scale * right_scale)).to(dtype)


def _hopper_product(left, left_scale, right, right_scale, dtype):
    """cuBLASLt takes left by rows, right by columns, and inner sizes that are multiples of 16: tokens are filled up."""
    fill = -left.shape[1] % 16
    if fill:
        left, right = F.pad(left.view(torch.uint8), (0, fill)), F.pad(right.view(torch.uint8), (0, 0, 0, fill))
        left, right = left.view(_E5M2), right.view(_E4M3)  # only gradients of weights add up over tokens
    left, right = left.contiguous(), right.mT.contiguous().mT
    out = dtype if dtype != torch.float64 else torch.float32
    return torch._scaled_mm(left, right, left_scale, right_scale, out_dtype=out).to(dtype)
