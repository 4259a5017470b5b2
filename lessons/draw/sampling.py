"""What temperature and top-p do to a distribution."""

import numpy as np

from lessons.draw.picture import BLUE, QUIET, RED, drawing
from numpy_ref.inference.sampling import probabilities


def sampling(logits, labels, temperatures=(0.5, 1.0, 2.0), top_p=0.9, most=12):
    """One panel a temperature: the likeliest tokens, those that top-p keeps in blue, those that it cuts hatched.

    logits (V,); labels: a short text for each token; most: tokens shown. The line is the mass from the likeliest on.
    """
    order = np.argsort(-logits, kind="stable")[:most]
    with drawing(f"Temperature bends the distribution, top-p = {top_p:g} cuts its tail", 10.5, 3.9) as (figure, picture):
        row = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
        for axes, temperature in zip(row, temperatures):
            p = probabilities(logits, temperature)
            kept = probabilities(logits, temperature, top_p=top_p) > 0
            _bars(axes, p[order], kept[order])
            axes.plot(range(len(order)), np.cumsum(p[order]), color=RED, marker="o", markersize=3, linewidth=1.2)
            axes.axhline(top_p, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.set_xticks(range(len(order)), [labels[token] for token in order], fontsize=8, family="monospace")
            axes.set(title=f"temperature {temperature:g}: {int(kept.sum())} of {len(logits)} tokens stay", ylim=(0, 1.04))
        row[0].set_ylabel("probability")
        row[0].annotate(f"top-p = {top_p:g}", (0.99, top_p + 0.015), xycoords=("axes fraction", "data"), ha="right", fontsize=8, color=QUIET)
        row[0].legend(handles=_signs(), loc="center right", fontsize=9)
    return picture


def _bars(axes, p, kept):
    x = np.arange(len(p))
    axes.bar(x[kept], p[kept], color=BLUE, width=0.75)
    axes.bar(x[~kept], p[~kept], color="white", edgecolor=QUIET, hatch="////", linewidth=0.8, width=0.75)


def _signs():
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=RED, marker="o", markersize=3, linewidth=1.2, label="mass so far"),
        Patch(facecolor=BLUE, label="stays"),
        Patch(facecolor="white", edgecolor=QUIET, hatch="////", label="cut"),
    ]
