"""Adam along geodesics: one step size for each point, from the history of its gradient's length."""

import numpy as np

from numpy_ref.hyperbolic.riemannian_sgd import named


def init_state(param):
    """State before the first step: no steps, no momentum, and a mean square for each point, (..., 1)."""
    return {"step": 0, "m": np.zeros_like(param), "v": np.zeros_like(param[..., :1])}


def riemannian_adam(param, grad, state, lr, c, beta1=0.9, beta2=0.999, eps=1e-8, manifold="poincare"):
    """One step of Adam on a product of hyperbolic spaces, a point a row (arXiv:1810.00760, figure 1a, without AMSGrad's
    maximum; bias corrections as in Adam, arXiv:1412.6980).

        g = ``riemannian_gradient``
        m = beta1 m + (1 - beta1) g              v = beta2 v + (1 - beta2) ||g||^2,    lengths in the metric at x
        x' = exp_x(-lr mhat / (sqrt(vhat) + eps))      mhat = m / (1 - beta1^t),    vhat = v / (1 - beta2^t)
        m = m carried to x'    (``exp_and_carry``)

    Momentum is a tangent vector: it means nothing at another point before it is carried there. A manifold has no
    coordinate axes, so that squares are averaged for whole points, not for coordinates: a point moves by about lr a step
    in whatever direction. In one dimension and without curvature it is Adam.

    param, grad, m (..., d) in the ball, (..., 1 + d) on the hyperboloid, v (..., 1) -> new param, new state.
    """
    space = named(manifold)
    step = state["step"] + 1
    gradient = space.riemannian_gradient(param, grad, c)
    m = beta1 * state["m"] + (1.0 - beta1) * gradient
    v = beta2 * state["v"] + (1.0 - beta2) * space.squared_length(param, gradient, c)
    scale = lr / (1.0 - beta1**step) / (np.sqrt(v / (1.0 - beta2**step)) + eps)
    moved, carried = space.exp_and_carry(param, m, -scale, c)
    return moved, {"step": step, "m": carried, "v": v}
