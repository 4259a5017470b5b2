"""Gradient clipping."""

import torch

TORCH_ONLY = {"clip_by_global_norm_"}


def global_norm(grads):
    """The Euclidean norm of all gradients together. Shapes: dict of (...) -> ()."""
    norms = torch._foreach_norm(list(grads.values()))
    return torch.linalg.vector_norm(torch.stack(norms))


def clip_by_global_norm(grads, max_norm):
    """Gradients scaled so that their global norm is at most ``max_norm`` (arXiv:1211.5063, algorithm 1).

        g = g min(1, max_norm / norm)

    Returns (grads, norm before clipping), both new. Nothing waits for the device; NaN stays NaN.
    """
    norm = global_norm(grads)
    factor = _factor(norm, max_norm)
    return {name: grad * factor for name, grad in grads.items()}, norm


@torch.no_grad()
def clip_by_global_norm_(grads, max_norm, norm=None):
    """``clip_by_global_norm`` in place. Returns the norm before clipping; give it where these are not all gradients."""
    norm = global_norm(grads) if norm is None else norm
    torch._foreach_mul_(list(grads.values()), _factor(norm, max_norm))
    return norm


def _factor(norm, max_norm):
    return (max_norm / norm).clamp(max=1)  # norm 0: inf, clamped to 1
