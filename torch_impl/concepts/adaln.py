"""AdaLN-zero (arXiv:2212.09748 §3.2): features of the step of noise, and what they do to a block."""

import math

import torch

from numpy_ref.errors import UserError

PERIOD = 10000.0


def time_features(times, width, dtype):
    """(cos(t f), sin(t f)) with speeds f from 1 down to nearly 1 / 10000. Shapes: times (...) -> (..., width)."""
    if width % 2:
        raise UserError(f"width={width} is odd: cosines and sines come in pairs; give an even width")
    pairs = torch.arange(width // 2, dtype=torch.float64, device=times.device)
    angles = times.double()[..., None] * torch.exp(pairs * (-math.log(PERIOD) / (width // 2)))
    return torch.cat((angles.cos(), angles.sin()), -1).to(dtype)


def modulate(x, shift, scale):
    """(1 + scale) x + shift. Shapes: all (..., d)."""
    return torch.addcmul(shift, 1 + scale, x)


def gated(x, branch, gate):
    """x + gate branch. Shapes: all (..., d)."""
    return torch.addcmul(x, gate, branch)
