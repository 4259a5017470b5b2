"""From haversines to angles."""

import torch

TINY = 1e-18  # what norms are at least: below it, directions mean nothing


def arc(h, squared=False):
    """theta = 2 asinh(sqrt(h)), the angle with sinh(theta / 2)^2 = h, or its square (R. W. Sinnott, "Virtues of the
    haversine", 1984, on a sphere of imaginary radius).

    Shapes: h >= 0 (...) -> (...). The gradient of theta at h = 0 is 0; its square is smooth there.
    """
    if not squared:
        return _Arc.apply(h)
    root = h.clamp(min=TINY**1.5).sqrt()
    return 4 * h * (root.asinh() / root).square()


class _Arc(torch.autograd.Function):
    """dtheta/dh = 1 / sqrt(h (1 + h)): a product in the backward pass instead of a chain through sqrt and asinh."""

    @staticmethod
    def forward(ctx, h):
        root = h.clamp(min=0).sqrt()
        ctx.save_for_backward(h, root)
        return root.asinh().mul_(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        h, root = ctx.saved_tensors
        return torch.where(h > 0, dy / (root * (1 + h).sqrt()), 0)
