"""Linear maps in 8 bits: half the memory traffic of 16 bits, and on GPUs since Hopper twice the arithmetic."""

from dataclasses import dataclass

import numpy as np

from numpy_ref.config import is_router
from numpy_ref.precision import round_to

_FORWARD, _BACKWARD = ("float8_e4m3fn", 448.0), ("float8_e5m2", 57344.0)  # finer, and wider for gradients


@dataclass(frozen=True)
class Float8:
    """A weight whose products are to be computed in 8 bits; ``linear`` takes it like any other."""

    values: np.ndarray


def float8_params(params):
    """The same parameters, the matrices of the blocks as ``Float8``. Embeddings, head and norms stay as they are."""
    return {name: Float8(value) if _inner_matrix(name, value.shape) else value for name, value in params.items()}


def float8_linear(x, weight, bias=None):
    """Affine map whose product has factors of 8 bits (arXiv:2209.05433; with one scale for each tensor: section 3.2).

        Q(a) = round(s a),  s = largest / max|a|        y = Q(x) Q(W)^T / (s_x s_W) + b

    The scale takes the largest number of the tensor to the largest of the format, so that only numbers some 2^15 times
    smaller are lost. x and W are rounded to e4m3 (three bits of fraction), gradients to e5m2 (two, and a wider range);
    the products are added up in float32 or better.

    Shapes: x (..., i), weight (o, i), bias (o,) or None -> y (..., o).  vjp: dy -> dx, dweight, dbias or None.

    Backward: as if Q were the identity ("straight through"; its own derivative is 0 wherever it exists), with the very
    factors of the forward pass, which are all that is kept of it:

        dx = Q'(dy) Q(W) / (s_dy s_W)        dW = Q'(dy)^T Q(x) / (s_dy s_x)        db = sum(dy)
    """
    kind = x.dtype
    rows, rows_scale = _quantized(x.reshape(-1, x.shape[-1]), *_FORWARD)
    matrix, matrix_scale = _quantized(weight, *_FORWARD)
    y = _product(rows, rows_scale, matrix.T, matrix_scale, kind)
    if bias is not None:
        y = y + bias

    def vjp(dy):
        dy = dy.reshape(-1, dy.shape[-1])
        steps, steps_scale = _quantized(dy, *_BACKWARD)
        dx = _product(steps, steps_scale, matrix, matrix_scale, kind).reshape(x.shape)
        dweight = _product(steps.T, steps_scale, rows, rows_scale, kind)
        return dx, dweight, None if bias is None else np.sum(dy, axis=0)

    return y.reshape(*x.shape[:-1], weight.shape[0]), vjp


def _quantized(x, name, largest):
    """(s x, rounded to the format, as float32; 1 / s). Nothing is beyond the format; of zeros the scale is 1."""
    x = np.asarray(x, np.float32)
    most = np.max(np.abs(x), initial=np.float32(0))
    scale = np.float32(largest) / most if most > 0 else np.float32(1)
    scale = np.minimum(scale, np.finfo(np.float32).max)  # of subnormal numbers it would be infinite
    return round_to(np.clip(x * scale, -largest, largest), name), np.float32(1) / scale


def _product(left, left_scale, right, right_scale, kind):
    return (left.astype(kind) @ right.astype(kind)) * kind.type(left_scale * right_scale)


def _inner_matrix(name, shape):
    return name.startswith("blocks.") and name.endswith(".weight") and len(shape) == 2 and not is_router(name)
