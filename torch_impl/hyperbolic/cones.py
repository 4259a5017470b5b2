"""Entailment cones (arXiv:1804.01882), in terms of tangent vectors at the origin."""

import math

import torch

from torch_impl.hyperbolic.radial import TINY


def half_aperture(v, c, width=0.1):
    """asin(2 K / sinh(r)), r = sqrt(c) ||v||, K = ``width``; pi / 2 where that is no angle.

    Shapes: v (..., d), c () -> (...).
    """
    reach = (c**0.5 * _norm(v)).squeeze(-1).sinh()
    proper = reach > 2 * width
    return torch.where(proper, (2 * width / torch.where(proper, reach, 4 * width)).asin(), math.pi / 2)


def exterior_angle(v, w, c):
    """The angle at exp_0(v) between its radius, prolonged, and the geodesic to exp_0(w), by atan2 of the components of
    that geodesic's direction across and along the radius; 0 at the origin.

    Shapes: v, w (..., d), c () -> (...).
    """
    n, m = _norm(v), _norm(w)
    r, q = (c**0.5 * x.squeeze(-1) for x in (n, m))
    apart, together = (torch.linalg.vector_norm(x, dim=-1) for x in (v / n - w / m, v / n + w / m))
    across = q.sinh() * apart * together / 2
    along = (q - r).sinh() - q.sinh() * r.cosh() * apart.square() / 2
    meaningless = ((across == 0) & (along == 0)) | (n.squeeze(-1) <= TINY)
    across, along = across.masked_fill(meaningless, 0), along.masked_fill(meaningless, 1)
    return torch.atan2(across, along)


def entailment_energy(v, w, c, width=0.1):
    """max(0, exterior angle - half aperture), eq. 33. Shapes: v, w (..., d), c () -> (...)."""
    return (exterior_angle(v, w, c) - half_aperture(v, c, width)).clamp(min=0)


def _norm(v):
    return torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=TINY)
