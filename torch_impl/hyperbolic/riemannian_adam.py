"""Riemannian Adam (arXiv:1810.00760)."""

import torch

from torch_impl.hyperbolic.riemannian_sgd import named

TORCH_ONLY = {"riemannian_adam_"}


def init_state(param):
    """No step, no momentum, one mean square a point. Shapes: param (..., d) -> "m" (..., d), "v" (..., 1)."""
    return {"step": 0, "m": torch.zeros_like(param), "v": torch.zeros_like(param[..., :1])}


def riemannian_adam(param, grad, state, lr, c, beta1=0.9, beta2=0.999, eps=1e-8, manifold="poincare"):
    """Figure 1a without the maximum, with Adam's bias corrections: the first moment is a tangent vector, carried along;
    the second the mean square of the gradient's Riemannian length.

    Shapes: param, grad and the state's "m" (..., d), on the hyperboloid (..., 1 + d), "v" (..., 1). Returns
    (param, state), new.
    """
    space, step = named(manifold), state["step"] + 1
    gradient = space.riemannian_gradient(param, grad, c)
    m = torch.lerp(state["m"], gradient, 1 - beta1)
    v = torch.lerp(state["v"], space.squared_length(param, gradient, c), 1 - beta2)
    pace = (v / (1 - beta2**step)).sqrt().add(eps).mul(1 - beta1**step)
    moved, carried = space.exp_and_carry(param, m, -lr / pace, c)
    return moved, {"step": step, "m": carried, "v": v}


@torch.no_grad()
def riemannian_adam_(params, grads, states, lr, c, beta1=0.9, beta2=0.999, eps=1e-8, manifold="poincare"):
    """``riemannian_adam`` on dicts by name, in place."""
    for name, param in params.items():
        state = states[name]
        moved, new = riemannian_adam(param, grads[name], state, lr, c, beta1, beta2, eps, manifold)
        param.copy_(moved)
        state["m"].copy_(new["m"])
        state["v"].copy_(new["v"])
        state["step"] = new["step"]
