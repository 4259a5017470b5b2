"""Stereographic projection between the hyperboloid and the ball."""

import torch

from torch_impl.hyperbolic.lorentz import lift


def to_poincare(x, c):
    """p = x_s / (1 + sqrt(c) x_0). Shapes: x (..., 1 + d), c () -> (..., d)."""
    space = x[..., 1:]
    return space / (1 + (1 + c * space.square().sum(-1, keepdim=True)).sqrt())


def to_lorentz(p, c):
    """x_s = 2 p / (1 - c ||p||^2). Shapes: p (..., d), c () -> (..., 1 + d)."""
    gap = (1 - c * p.square().sum(-1, keepdim=True)).clamp(min=torch.finfo(p.dtype).eps / 2)
    return lift(2 * p / gap, c)
