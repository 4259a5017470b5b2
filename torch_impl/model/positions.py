"""Where a token stands, as a vector added to its embedding."""

import math

import torch

from numpy_ref.errors import UserError
from torch_impl.model.embedding import embedding


def sinusoidal_positions(positions, width, dtype):
    """Sines and cosines of geometrically spaced wavelengths ("Attention Is All You Need" §3.5).

        y[2i] = sin(position / 10000^(2i/width))        y[2i+1] = cos(position / 10000^(2i/width))

    Shapes: positions (...) integers -> (..., width) in ``dtype``. Angles are float64 until the end: in 16 bits the
    position itself would be rounded from 257 on. UserError for an odd width.
    """
    if width % 2:
        raise UserError(f"sines and cosines come in pairs, so width={width} must be even; add or remove a feature")
    place = "cpu" if positions.device.type == "mps" else positions.device  # MPS has no float64
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device=place) * (-math.log(10000) / width)
    angle = positions.to(place).double()[..., None] * exponent.exp()
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(-2).to(dtype).to(positions.device)


def learned_positions(positions, weight):
    """Rows of a trained table, one for each position. Shapes: positions (...), weight (context, d) -> (..., d)."""
    return embedding(positions, weight)
