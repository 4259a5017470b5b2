"""How a token says where it stands: attention alone does not see the order of what it attends to."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.embedding import embedding


def sinusoidal_positions(positions, width, dtype):
    """Sines and cosines of the position at wavelengths from 2 pi to 20,000 pi (arXiv:1706.03762, section 3.5).

        y[2i]     = sin(position / 10000^(2i / width))
        y[2i + 1] = cos(position / 10000^(2i / width))

    A shift by k turns every pair by a fixed angle, so relative positions are linear maps. Nothing is learned, so
    there is no vjp. Angles are computed in float64, as float32 would lose the phase at large positions, then cast.

    positions (...) of whole numbers, width even -> (..., width) of ``dtype``. Raises UserError for an odd width.
    """
    if width % 2:
        raise UserError(f"sinusoidal positions come in pairs, got width={width}; take an even width")
    wavelength = 10000.0 ** (np.arange(0, width, 2) / width)
    angle = positions[..., None] / wavelength
    pairs = np.stack((np.sin(angle), np.cos(angle)), axis=-1)
    return pairs.reshape(*positions.shape, width).astype(dtype)


def learned_positions(positions, weight):
    """Rows of a table of positions, learned like the token embedding.

        y = weight[positions]

    Shapes: positions (...) of whole numbers in range(context), weight (context, d) -> y (..., d).
    vjp: dy (..., d) -> dweight (context, d). Raises UserError for a position outside the table.
    """
    if positions.size and (positions.min() < 0 or positions.max() >= weight.shape[0]):
        raise UserError(
            f"positions from {positions.min()} to {positions.max()} were asked for, but only {weight.shape[0]} were "
            "learned; shorten the text or train with a larger context"
        )
    return embedding(positions, weight)
