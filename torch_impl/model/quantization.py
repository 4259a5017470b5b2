"""Weight-only quantisation: matrices in 8 or 4 bits, activations as they are."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from numpy_ref.config import is_router
from numpy_ref.errors import UserError


@dataclass(frozen=True)
class Quantized:
    """A quantised matrix (o, i). 8 bits: codes (o, i) int8, scales (o,), no zeros. 4 bits: codes (o, i/2) uint8, the
    even input in the low nibble, scales and zeros (o, i/group)."""

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor | None
    bits: int
    group: int

    @property
    def shape(self):
        rows, columns = self.codes.shape
        return torch.Size((rows, columns if self.bits == 8 else 2 * columns))


def quantize(weight, bits, group=32):
    """Rounds a matrix to codes.

        int8: symmetric, one scale a row, max|w| -> 127        int4: one scale and one zero a group, min -> 0, max -> 15

    with zero the value of code 8, as PyTorch's int4 kernels have it. Shapes: (o, i) -> Quantized. UserError for bits
    other than 8 and 4, and for inputs that don't divide into even groups.
    """
    if bits == 8:
        scales = weight.abs().amax(1) / 127
        codes = (weight / torch.where(scales == 0, 1, scales)[:, None]).round().clamp(-127, 127)
        return Quantized(codes.to(torch.int8), scales, None, 8, 0)
    if bits != 4:
        raise UserError(f"bits={bits} is not possible; choose 8 or 4")
    inputs = weight.shape[1]
    if group < 2 or group % 2 or inputs % group:
        raise UserError(f"{inputs} inputs don't divide into even groups of {group}; take an even divisor of {inputs}")
    groups = weight.unflatten(1, (-1, group))
    low, high = groups.aminmax(dim=2)
    scales = (high - low) / 15
    zeros = low + 8 * scales
    step = torch.where(scales == 0, 1, scales).unsqueeze(2)
    codes = (((groups - zeros.unsqueeze(2)) / step).round() + 8).clamp(0, 15).to(torch.uint8).flatten(1)
    return Quantized(codes[:, 0::2] | codes[:, 1::2] << 4, scales, zeros, 4, group)


def dequantize(quantized, dtype):
    """The values of the codes. Shapes: Quantized -> (o, i) in ``dtype``."""
    scales = quantized.scales.to(dtype)
    if quantized.bits == 8:
        return quantized.codes.to(dtype) * scales[:, None]
    nibbles = torch.stack((quantized.codes & 15, quantized.codes >> 4), -1).flatten(1)
    centred = nibbles.to(dtype).unflatten(1, (-1, quantized.group)) - 8
    return torch.addcmul(quantized.zeros.to(dtype).unsqueeze(2), centred, scales.unsqueeze(2)).flatten(1)


def quantized_linear(x, weight, bias=None):
    """x W^T + bias with the values of a Quantized W. Shapes: x (..., i) -> (..., o)."""
    return F.linear(x, dequantize(weight, x.dtype), bias)


def quantize_params(params, config, bits, group=32):
    """Quantises the matrices of the blocks and an untied output head; the rest stays. name -> tensor -> same names."""

    def fits(name, value):
        inner = name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2 and not is_router(name)
        return name == "output.weight" or inner

    return {name: quantize(value, bits, group) if fits(name, value) else value for name, value in params.items()}
