"""How well distances tell the nodes of a graph from each other. Rows are nodes, columns all nodes; a node's own place is
where hops are 0, and does not count."""

import numpy as np


def mean_average_precision(distances, hops):
    """Whether neighbours are nearest (arXiv:1804.03329, section 2): 1 where every node's neighbours come first.

        MAP = mean over nodes i of the mean over neighbours j of
              |neighbours of i no farther than j| / |nodes no farther than j|

    Shapes: distances, hops (B, n) -> (). What is exactly as far as a neighbour counts as no farther: ties never help.
    """
    precisions = []
    for row, apart in zip(distances, hops):
        others, neighbours = np.sort(row[apart > 0]), np.sort(row[apart == 1])
        within = np.searchsorted(others, neighbours, side="right")
        hits = np.searchsorted(neighbours, neighbours, side="right")
        precisions.append(np.mean(hits / within))
    return np.mean(np.asarray(precisions, distances.dtype))


def distortion(distances, hops):
    """The mean distortion, mean |s d / h - 1|, with the best scale s that there is: it does not depend on units.

    A weighted sum of distances to points is least at their weighted median: with w = d / h it is mean w |s - 1 / w|, so s
    is the median of 1 / w, weighted by w.

    Shapes: distances, hops (B, n) -> (). 1 where all distances are 0.
    """
    others = hops > 0
    ratios = np.sort(distances[others] / hops[others].astype(distances.dtype))[::-1]  # 1 / w rises
    below = np.cumsum(ratios)
    middle = ratios[min(np.searchsorted(below, 0.5 * below[-1]), len(ratios) - 1)]
    scale = 1.0 / middle if middle > 0 else 0.0
    return np.mean(np.abs(scale * ratios - 1.0))


def worst_distortion(distances, hops):
    """max(d / h) / min(d / h): by how much the most stretched pair is longer than the most shrunken one, 1 at best.

    Shapes: distances, hops (B, n) -> (). Infinite where two nodes lie at one point.
    """
    others = hops > 0
    ratios = distances[others] / hops[others].astype(distances.dtype)
    with np.errstate(divide="ignore"):
        return np.max(ratios) / np.min(ratios)
