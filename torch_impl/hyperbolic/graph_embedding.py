"""Losses of embedded graphs. Pairs of points are compared by ``torch.cdist``, which never holds their differences."""

import torch
import torch.nn.functional as F

from torch_impl.hyperbolic.radial import TINY, arc

GEOMETRIES = "euclidean", "lorentz", "poincare"
LOSSES = "distance", "ranking"
_NEVER = 1e30  # a distance at which nothing is ever chosen
_LINEAR = 40  # beyond, softplus is its argument in float64, too; from PyTorch's 20 on its slope is wrong by 2e-9


def pair_distances(x, y, geometry):
    """Distances of every x from every y: Euclid's, of tangent vectors ("lorentz"), or of points in the ball, c = 1.

    Shapes: x (B, d), y (n, d) -> (B, n).
    """
    if geometry == "euclidean":
        return _euclidean(x, y)
    if geometry == "poincare":
        gaps = (_gap(x), _gap(y).mT)
        return arc(_euclidean(x, y).square() / (gaps[0] * gaps[1]))
    n, m = (torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=TINY) for v in (x, y))
    share = _euclidean(x / n, y / m).square() * (n.sinh() * m.sinh().mT / 4)
    return arc(((n - m.mT) / 2).sinh().square() + share)


def distance_loss(distances, hops):
    """mean |d / h - 1| over h > 0 (arXiv:1804.03329, section 2). Shapes: distances, hops (B, n) -> ()."""
    others = hops > 0
    return ((distances - hops).abs() / hops.clamp(min=1) * others).sum() / others.sum()


def ranking_loss(distances, hops):
    """Cross-entropy of each neighbour among the nodes that are none (arXiv:1705.08039, eq. 6), by one sum for a row.

    Shapes: distances, hops (B, n) -> ().
    """
    others = torch.where(hops > 1, -distances, -_NEVER).logsumexp(-1, keepdim=True)
    return F.softplus((others + distances)[hops == 1], threshold=_LINEAR).mean()


def embedding_loss(points, log_scale, rows, hops, geometry, loss):
    """One of the two losses, of exp(log_scale) times the distances of the nodes ``rows`` (None: all) from all.

    Shapes: points (n, d), log_scale (), rows (B,), hops (B, n) -> ().
    """
    x = points if rows is None else points[rows]
    distances = pair_distances(x, points, geometry) * log_scale.exp()
    return {"distance": distance_loss, "ranking": ranking_loss}[loss](distances, hops)


def _euclidean(x, y):
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _gap(x):
    return (1 - x.square().sum(-1, keepdim=True)).clamp(min=torch.finfo(x.dtype).eps / 2)
