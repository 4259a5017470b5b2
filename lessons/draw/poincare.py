"""The Poincare disk: points, geodesics, and how much room there is near the border."""

import numpy as np

from lessons.draw.picture import BLUE, COLOURS, INK, QUIET, drawing
from numpy_ref.hyperbolic.poincare import exp_map, log_map


def poincare(points=None, edges=(), depth=None, labels=None, c=1.0, title="The Poincare disk"):
    """Points (N, 2) of the disk of curvature -c with geodesics between some of them; without points, a tree of triples.

    edges: pairs of indices; depth (N,): whole numbers that choose colours and marks; labels: {index: text}.
    """
    if points is None:
        points, edges, depth = branching(3, 4)
    points, scale, c = np.asarray(points), float(np.sqrt(c)), np.asarray(float(c))
    with drawing(title, 6.6, 6.6) as (figure, picture):
        axes = figure.subplots()
        _disk(axes, scale)
        for one, other in edges:
            path = geodesic(points[one], points[other], c)
            axes.plot(*path.T, color=QUIET, linewidth=0.9, zorder=1)
        _points(axes, points, depth)
        for index, text in (labels or {}).items():
            axes.annotate(text, points[index], xytext=(4, 4), textcoords="offset points", fontsize=9, color=INK)
        axes.set(xlim=(-1.04 / scale, 1.04 / scale), ylim=(-1.04 / scale, 1.04 / scale), aspect="equal")
        axes.axis("off")
    return picture


def branching(children, levels, step=1.5):
    """A tree that needs no training: every edge is ``step`` long, and the ends of a node's edges look evenly around it.

    Returns (points, edges, depth).
    """
    c, points, edges, depth = np.asarray(1.0), [np.zeros(2)], [], [0]
    ways = {0: np.linspace(0, 2 * np.pi, children, endpoint=False) + np.pi / 2}
    while ways:
        node = min(ways)
        for angle in ways.pop(node):
            x = points[node]
            along = np.array([np.cos(angle), np.sin(angle)]) * step * (1 - x @ x) / 2
            child = exp_map(x[None], along[None], c)[0][0]
            edges.append((node, len(points)))
            depth.append(depth[node] + 1)
            if depth[-1] < levels:
                back = log_map(child[None], x[None], c)[0][0]
                ways[len(points)] = np.arctan2(back[1], back[0]) + 2 * np.pi * np.arange(1, children + 1) / (children + 1)
            points.append(child)
    return np.array(points), edges, np.array(depth)


def geodesic(x, y, c, count=24):
    """Points (count, d) on the shortest way from x to y."""
    way, _ = log_map(x[None], y[None], c)
    t = np.linspace(0, 1, count)[:, None]
    return exp_map(np.repeat(x[None], count, 0), t * way, c)[0]


def _disk(axes, scale):
    from matplotlib.patches import Circle

    axes.add_patch(Circle((0, 0), 1 / scale, facecolor="#f5f7f9", edgecolor=INK, linewidth=1.2, zorder=0))
    for distance in (1, 2, 3, 4):  # circles that are equally far apart
        axes.add_patch(Circle((0, 0), np.tanh(distance / 2) / scale, fill=False, edgecolor="#dfe3e8", linewidth=0.8, zorder=0))


def _points(axes, points, depth):
    if depth is None:
        axes.plot(*points.T, "o", color=BLUE, markersize=4, zorder=2)
        return
    for level in np.unique(depth):
        own = points[depth == level]
        axes.plot(*own.T, "osD^vP"[level % 6], color=COLOURS[level % 6], markersize=max(2.5, 8 - 1.4 * level), linestyle="none", label=f"depth {level}", zorder=2)
    axes.legend(loc="lower left", fontsize=8, ncols=1)
