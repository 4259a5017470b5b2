"""Features centred by their median, scaled by their quartiles."""

import torch

from numpy_ref.errors import UserError

NORMAL = 0.7413


def fit_normaliser(x):
    """Median, and 0.7413 times the distance of the quartiles, of each feature (arXiv:2412.08821 §2.3.1); a distance of 0
    counts as a scale of 1.

    Shapes: x (n, d) -> {"center": (d,), "scale": (d,)}.
    """
    if not len(x):
        raise UserError("no sentences, no normaliser; give at least one")
    low, center, high = torch.quantile(x, x.new_tensor([0.25, 0.5, 0.75]), dim=0)
    return {"center": center, "scale": torch.where(high == low, 1.0, NORMAL * (high - low))}


def normalise(x, normaliser):
    """(x - center) / scale. Shapes: x (..., d) -> (..., d)."""
    return (x - normaliser["center"]) / normaliser["scale"]


def denormalise(x, normaliser):
    """center + scale x. Shapes: x (..., d) -> (..., d)."""
    return torch.addcmul(normaliser["center"], normaliser["scale"], x)
