"""Mean average precision and distortion of distances (B, n) against hops (B, n)."""

import torch


def mean_average_precision(distances, hops):
    """Mean over nodes and their neighbours of the share of neighbours among the nodes no farther (arXiv:1804.03329).

    Shapes: distances, hops (B, n) -> (). All rows are sorted and searched at once.
    """
    linked, infinite = hops == 1, float("inf")
    distances = distances.contiguous()
    within, hits = (
        torch.searchsorted(torch.where(chosen, distances, infinite).sort(-1).values, distances, right=True)
        for chosen in (hops > 0, linked)
    )
    precision = torch.where(linked, hits.double() / within.clamp(min=1), 0)
    return (precision.sum(-1) / linked.sum(-1)).mean().to(distances.dtype)


def distortion(distances, hops):
    """mean |s d / h - 1| with the s that makes it least, a weighted median. Shapes: distances, hops (B, n) -> ()."""
    ratios = _ratios(distances, hops).sort(descending=True).values
    below = ratios.cumsum(0, dtype=torch.float64)
    middle = ratios[torch.searchsorted(below, below[-1] / 2).clamp(max=len(ratios) - 1)]
    scale = torch.where(middle > 0, 1 / middle, 0)
    return (scale * ratios - 1).abs().mean()


def worst_distortion(distances, hops):
    """max(d / h) / min(d / h). Shapes: distances, hops (B, n) -> ()."""
    least, most = _ratios(distances, hops).aminmax()
    return most / least


def _ratios(distances, hops):
    others = hops > 0
    return distances[others] / hops[others]
