"""Weights in 8 or 4 bits: a quarter or an eighth of the memory, read as they are and multiplied in full precision."""

from dataclasses import dataclass

import numpy as np

from numpy_ref.config import is_router
from numpy_ref.errors import UserError


@dataclass(frozen=True)
class Quantized:
    """A matrix (o, i) in few bits; ``quantize`` makes it, ``dequantize`` undoes it up to rounding.

    bits 8: codes (o, i) int8, scales (o,), zeros None.  bits 4: codes (o, i / 2) uint8, two a byte, the even input in
    the lower half; scales and zeros (o, i / group).
    """

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray | None
    bits: int
    group: int

    @property
    def shape(self):
        """Of the matrix."""
        rows, columns = self.codes.shape
        return rows, columns * (1 if self.bits == 8 else 2)


def quantize(weight, bits, group=32):
    """A matrix in codes of 8 or 4 bits.

        8 bits   scale = max|w| / 127 of a row                 code = round(w / scale)                    w ~ code scale
        4 bits   scale = (max - min) / 15 of a group of inputs, zero = min + 8 scale
                 code = round((w - zero) / scale) + 8, from 0 to 15                       w ~ (code - 8) scale + zero

    Rounding is to the nearest, half to even, so that no weight is off by more than half a scale. Small groups follow the
    weights closer and cost more scales: 32 inputs make 4 + 2 bits a weight with float32 scales and zeros.

    weight (o, i) -> Quantized, scales in the format of the weight. Raises UserError for other bits, and in 4 bits for
    inputs that groups don't divide.
    """
    if bits == 8:
        scales = np.max(np.maximum(weight, -weight), axis=1) / 127
        codes = np.rint(weight / np.where(scales == 0, 1, scales)[:, None])
        return Quantized(np.clip(codes, -127, 127).astype(np.int8), scales, None, 8, 0)
    if bits != 4:
        raise UserError(f"bits={bits} is not possible; weights can be quantised to 8 or 4 bits")
    rows, inputs = weight.shape
    if group < 2 or group % 2 or inputs % group:
        raise UserError(
            f"groups of {group} do not divide {inputs} inputs into even groups; take an even divisor of {inputs}"
        )
    groups = weight.reshape(rows, -1, group)
    low, high = np.min(groups, axis=2), np.max(groups, axis=2)
    scales = (high - low) / 15
    zeros = low + 8 * scales
    step = np.where(scales == 0, 1, scales)[:, :, None]
    codes = np.clip(np.rint((groups - zeros[:, :, None]) / step) + 8, 0, 15).astype(np.uint8).reshape(rows, inputs)
    return Quantized(codes[:, 0::2] | (codes[:, 1::2] << 4), scales, zeros, 4, group)


def dequantize(quantized, dtype):
    """The matrix that the codes stand for: Quantized -> (o, i) of ``dtype``."""
    codes, scales = quantized.codes, quantized.scales.astype(dtype)
    if quantized.bits == 8:
        return codes.astype(dtype) * scales[:, None]
    both = np.stack((codes & 15, codes >> 4), axis=-1).astype(np.int64)
    groups = both.reshape(len(codes), -1, quantized.group) - 8
    return (groups.astype(dtype) * scales[:, :, None] + quantized.zeros.astype(dtype)[:, :, None]).reshape(len(codes), -1)


def quantized_linear(x, weight, bias=None):
    """``linear`` with a quantised matrix: y = x W^T + b, W the matrix that the codes stand for.

    Shapes: x (..., i), weight Quantized (o, i), bias (o,) or None -> y (..., o).
    vjp: dy (..., o) -> dx (..., i), None, dbias (o,) or None: codes are whole numbers and have no gradient.

    Backward: as for ``linear``.
    """
    matrix = dequantize(weight, x.real.dtype)
    y = x @ matrix.T
    if bias is not None:
        y = y + bias

    def vjp(dy):
        dbias = None if bias is None else np.sum(dy.reshape(-1, dy.shape[-1]), axis=0)
        return dy @ matrix, None, dbias

    return y, vjp


def quantize_params(params, config, bits, group=32):
    """A model whose large matrices are quantised: those of the blocks and the output head, unless it is tied.

    Embeddings are looked up, not multiplied; norms, biases and routers are small. Stacked experts stay as they are. params: name -> array -> the same names.
    """
    chosen = {name for name, value in params.items() if name == "output.weight" or _inner_matrix(name, value.ndim)}
    return {name: quantize(value, bits, group) if name in chosen else value for name, value in params.items()}


def _inner_matrix(name, axes):
    return name.startswith("blocks.") and name.endswith(".weight") and axes == 2 and not is_router(name)
