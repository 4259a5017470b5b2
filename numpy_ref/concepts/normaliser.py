"""Concept features on one scale: they come in sizes of all kinds, with outliers that would rule mean and deviation."""

import numpy as np

from numpy_ref.errors import UserError

NORMAL = 0.7413  # deviation of normal numbers whose quartiles are 1 apart


def fit_normaliser(x):
    """Centre and scale of each feature by its quartiles (arXiv:2412.08821, section 2.3.1).

        center = median        scale = 0.7413 (third quartile - first quartile), 1 where that is 0

    A quantile between two numbers is interpolated: that at q of n sorted ones is number q (n - 1).

    Shapes: x (n, d), n >= 1 -> {"center": (d,), "scale": (d,)}. Raises UserError without rows.
    """
    if not len(x):
        raise UserError("there are no sentences to fit a normaliser to; give at least one")
    ordered = np.sort(x, axis=0)
    (low, least, _), (center, _, _), (high, _, most) = (_quantile(ordered, q) for q in (0.25, 0.5, 0.75))
    return {"center": center, "scale": np.where(least == most, 1.0, NORMAL * (high - low))}


def _quantile(ordered, q):
    """The quantile, and the two numbers that it lies between."""
    place = q * (len(ordered) - 1)
    below, above = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
    return below + (place - int(np.floor(place))) * (above - below), below, above


def normalise(x, normaliser):
    """y = (x - center) / scale.

    Shapes: x (..., d), normaliser as ``fit_normaliser`` gives it -> (..., d);  vjp: dy -> dx = dy / scale.
    """

    def vjp(dy):
        return dy / normaliser["scale"]

    return (x - normaliser["center"]) / normaliser["scale"], vjp


def denormalise(x, normaliser):
    """The way back: y = center + scale x.

    Shapes: x (..., d) -> (..., d);  vjp: dy -> dx = scale dy.
    """

    def vjp(dy):
        return dy * normaliser["scale"]

    return normaliser["center"] + normaliser["scale"] * x, vjp
