"""Riemannian gradient descent (S. Bonnabel, "Stochastic gradient descent on Riemannian manifolds", 2013)."""

import torch

from numpy_ref.errors import UserError
from torch_impl.hyperbolic import lorentz, poincare

TORCH_ONLY = {"riemannian_sgd_"}

_MANIFOLDS = {"poincare": poincare, "lorentz": lorentz}


def riemannian_sgd(param, grad, lr, c, manifold="poincare"):
    """x = exp_x(-lr grad f), eq. 2. Shapes: param, grad (..., d), on the hyperboloid (..., 1 + d) -> param, new."""
    step = named(manifold).riemannian_gradient(param, grad, c).mul(-lr)
    return retract(param, step, c, manifold)


def retract(param, step, c, manifold="poincare"):
    """exp_x of a tangent vector; in the ball not quite to its border. Shapes: (..., d) or (..., 1 + d) -> the same."""
    if manifold == "lorentz":
        return lorentz.exp_map(param, step, c)  # times follow from space: nothing to project
    return poincare.project(named(manifold).exp_map(param, step, c), c)


def named(manifold):
    """The module of a manifold; UserError for an unknown name."""
    if manifold not in _MANIFOLDS:
        raise UserError(f"no manifold is called {manifold!r}; there are {' and '.join(_MANIFOLDS)}")
    return _MANIFOLDS[manifold]


@torch.no_grad()
def riemannian_sgd_(params, grads, lr, c, manifold="poincare"):
    """``riemannian_sgd`` on dicts by name, in place."""
    for name, param in params.items():
        param.copy_(riemannian_sgd(param, grads[name], lr, c, manifold))
