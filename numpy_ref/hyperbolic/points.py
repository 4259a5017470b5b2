"""Whether numbers that somebody gave are points of hyperbolic space. The maps themselves do not ask: they would have to
look at every number, and clamp what rounding brings to the border."""

import math

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.hyperbolic.riemannian_sgd import named


def check_points(x, c, manifold="poincare"):
    """Raise UserError, one line, unless c is a curvature and every row of x a point of the manifold.

        ball           c ||x||^2 < 1
        hyperboloid    c (x_0^2 - ||x_s||^2) = 1 within rounding, x_0 > 0

    Shapes: x (..., d), on the hyperboloid (..., 1 + d), c ().
    """
    named(manifold)
    if not (math.isfinite(c) and c > 0):
        raise UserError(f"curvature is -c with a finite c above 0; c = {float(c):g} was given")
    rows = np.asarray(x).reshape(-1, np.shape(x)[-1])
    squares = c * rows.astype(np.float64) ** 2
    if manifold == "lorentz":
        found = squares[:, 0] - np.sum(squares[:, 1:], axis=-1)
        right = (np.abs(found - 1.0) <= 1e3 * np.finfo(rows.dtype).eps * (1.0 + squares[:, 0])) & (rows[:, 0] > 0)
    else:
        found = np.sum(squares, axis=-1)
        right = found < 1.0
    if not right.all():
        row = int(np.argmin(right))
        words = {
            "lorentz": "is not on the hyperboloid: c (x_0^2 - ||x_s||^2) must be 1 and x_0 above 0, but the first is",
            "poincare": "is outside the ball: c ||x||^2 must be below 1, but is",
        }[manifold]
        raise UserError(f"row {row} of the points {words} {found[row]:.6g}; {manifold}.project draws points back")
