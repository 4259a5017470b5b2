"""Gradient descent along geodesics."""

from numpy_ref.errors import UserError
from numpy_ref.hyperbolic import lorentz, poincare

_MANIFOLDS = {"poincare": poincare, "lorentz": lorentz}


def riemannian_sgd(param, grad, lr, c, manifold="poincare"):
    """One step of stochastic gradient descent on a manifold (S. Bonnabel 2013, eq. 2; for the ball arXiv:1705.08039).

        x = exp_x(-lr g),    g the ``riemannian_gradient``

    As the curvature goes to 0 this is the ordinary step on the hyperboloid; in the ball, whose metric is 4 times
    Euclid's there, its step is a quarter as long. ``retract`` keeps points off the border of the ball.

    param, grad: rows of points and Euclidean gradients, (..., d) in the ball, (..., 1 + d) on the hyperboloid -> param.
    Raises UserError for another manifold than "poincare" or "lorentz".
    """
    space = named(manifold)
    step = -lr * space.riemannian_gradient(param, grad, c)
    return retract(param, step, c, manifold)


def retract(param, step, c, manifold="poincare"):
    """exp_x(step) for a tangent vector, inside the ball where it is one. Shapes: (..., d) or (..., 1 + d) -> the same."""
    space = named(manifold)
    moved, _ = space.exp_map(param, step, c)
    return space.project(moved, c)[0]


def named(manifold):
    """The module of a manifold. Raises UserError for an unknown name."""
    if manifold not in _MANIFOLDS:
        raise UserError(f"there is no manifold {manifold!r}; choose {' or '.join(_MANIFOLDS)}")
    return _MANIFOLDS[manifold]
