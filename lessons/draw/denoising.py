"""From noise to one of several points: what a sampler does where regression would answer with the mean."""

import numpy as np

from lessons.draw.picture import BLUE, INK, QUIET, RED, drawing


def denoising(paths, concepts, mean, title="Twenty-five steps from noise to a concept"):
    """Paths (n, steps, 2) of samples, the points (k, 2) that may be meant, and their mean (2,), regression's answer."""
    with drawing(title, 6.6, 6.0) as (figure, picture):
        axes = figure.subplots()
        axes.plot(*np.moveaxis(paths, -1, 0).swapaxes(1, 2), color=BLUE, alpha=0.35, linewidth=0.9, zorder=1)
        axes.plot(*paths[:, 0].T, ".", color=QUIET, markersize=4, label="noise, where sampling begins")
        axes.plot(*concepts.T, "o", color=BLUE, markersize=11, label="concepts: what may follow")
        axes.plot(*mean, "X", color=RED, markersize=12, markeredgecolor="white", label="regression: their mean, none of them")
        axes.set_aspect("equal")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), labelcolor=INK)
    return picture
