"""Rounding to smaller number formats."""

import torch

from numpy_ref.errors import UserError

_FORMATS = ("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


def round_to(x, name):
    """x as the format of that name would store it, in float32: PyTorch's own casts, to nearest, ties to even.

    Beyond the largest number: infinity. float8_e4m3fn has none; PyTorch's cast used to give NaN there and now
    saturates, which is what we mean: 448. Shapes: (...) -> (...).
    """
    if name not in _FORMATS:
        raise UserError(f"unknown number format {name!r}; choose one of {', '.join(_FORMATS)}")
    x = x.float()
    if name == "float8_e4m3fn":
        x = x.clamp(-448, 448)
    return x.to(getattr(torch, name)).float()
