"""Whether tensors are points of hyperbolic space."""

import math

import torch

from numpy_ref.errors import UserError
from torch_impl.hyperbolic.riemannian_sgd import named


def check_points(x, c, manifold="poincare"):
    """Raise UserError, one line, unless c is a curvature and every row of x a point of the manifold.

    Shapes: x (..., d), on the hyperboloid (..., 1 + d), c (). It waits for the device.
    """
    named(manifold)
    if not (math.isfinite(c) and c > 0):
        raise UserError(f"curvature is -c with a finite c above 0; c = {float(c):g} was given")
    squares = x.detach().flatten(0, -2).double().square() * c
    if manifold == "lorentz":
        found = squares[:, 0] - squares[:, 1:].sum(-1)
        slack = 1e3 * torch.finfo(x.dtype).eps * (1 + squares[:, 0])
        wrong = ~(((found - 1).abs() <= slack) & (x.detach().flatten(0, -2)[:, 0] > 0))
    else:
        found = squares.sum(-1)
        wrong = ~(found < 1)
    if wrong.any():
        row = int(wrong.int().argmax())
        what = "is off the hyperboloid, where c (x_0^2 - ||x_s||^2) is 1 and x_0 above 0: it has"
        if manifold == "poincare":
            what = "is outside the ball, where c ||x||^2 is below 1: it has"
        raise UserError(f"row {row} of the points {what} {float(found[row]):.6g}; {manifold}.project draws points back")
