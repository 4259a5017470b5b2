"""Distances of points exp_0(v), from the tangent vectors v at the origin."""

import torch

from torch_impl.hyperbolic.radial import TINY, arc



def haversine(v, w, c):
    """h = sinh(sqrt(c) d / 2)^2 for the distance d of exp_0(v) and exp_0(w), by the hyperbolic law of haversines:

        h = sinh((r - q) / 2)^2 + sinh(r) sinh(q) ||v/||v|| - w/||w||||^2 / 4,    r = sqrt(c) ||v||,  q = sqrt(c) ||w||

    Shapes: v, w (..., d) broadcast, c () -> (...). Norms below TINY count as TINY, in radius and direction alike: so the
    gradient at v = 0 comes out right by itself.
    """
    n, m = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=TINY) for x in (v, w))
    r, q = (c**0.5 * x.squeeze(-1) for x in (n, m))
    square = (v / n - w / m).square().sum(-1)
    return ((r - q) / 2).sinh().square() + r.sinh() * q.sinh() * square / 4


def distance(v, w, c, squared=False):
    """d = 2 asinh(sqrt(h)) / sqrt(c) with h = ``haversine``, or d^2. Shapes: v, w (..., d) broadcast, c () -> (...)."""
    theta = arc(haversine(v, w, c), squared)
    return theta / (c if squared else c**0.5)
