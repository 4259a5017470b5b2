"""The Lorentz centroid."""

import torch

from torch_impl.hyperbolic.lorentz import lift
from torch_impl.hyperbolic.radial import TINY


def centroid(x, weights, c):
    """y = s / (sqrt(c) nu) with s = sum_i w_i x_i and nu^2 = -<s, s> (arXiv:1904.02239, theorem 3.3).

    nu^2 = (s_0 + ||s_s||) (s_0 - ||s_s||); the second factor sums what each point's time exceeds its length by, and how
    far its direction is from that of s: sum_i w_i ((x_i,0 - n_i) + n_i (1 - cos)), neither as a difference.

    Shapes: x (..., n, 1 + d), weights (..., n), c () -> (..., 1 + d).
    """
    space = x[..., 1:]
    n = _norm(space)
    times = (n.square() + 1 / c).sqrt()
    total = (weights.unsqueeze(-2) @ space).squeeze(-2)
    length = _norm(total)
    apart = (space / n - (total / length).unsqueeze(-2)).square().sum(-1)
    n, times, length = n.squeeze(-1), times.squeeze(-1), length.squeeze(-1)
    lead = (weights * (1 / (c * (times + n)) + n * apart / 2)).sum(-1)
    nu = (lead * ((weights * times).sum(-1) + length)).sqrt()
    return lift(total / (c**0.5 * nu).unsqueeze(-1), c)


def _norm(v):
    return torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=TINY)
