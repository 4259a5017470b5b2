"""Picture of the experiment with pseudo-words."""

import numpy as np

from numpy_ref.plots import INK, canvas, halo
from numpy_ref.run_plots import COLOURS

DEFINITION = "pictures of numbers that the wings computed"


def comparison(results, words, path):
    """Accuracy of every model, and of every pair with and without context, as a PNG at ``path``.

    results: {kind: [last measures of each seed]}; words: the two words of each pair.
    """
    with canvas(path, figsize=(10, 5.2)) as figure:
        bars, single = figure.subplots(1, 2, width_ratios=(2, 3))
        figure.suptitle("Which of two words stood here?", x=0.02, ha="left", fontsize=13, fontweight="bold")
        for number, (kind, seeds) in enumerate(results.items()):
            place, values = len(results) - 1 - number, [row["accuracy"] for row in seeds]
            bars.barh(place, np.mean(values), color=COLOURS[number % len(COLOURS)], alpha=0.35, height=0.62)
            bars.plot(values, np.full(len(values), place), "o", color=COLOURS[number % len(COLOURS)], markersize=4.5)
            bars.annotate(f"{np.mean(values):.3f}", (0.02, place), va="center", color=INK, fontweight="bold", path_effects=halo())
        bars.set(title="held-out documents: mean, and each seed", xlabel="share of right guesses", xlim=(0, 1))
        bars.set_yticks(range(len(results)), list(reversed(results)))
        bars.grid(axis="y", visible=False)
        _pairs(single, results, words)


def _pairs(axes, results, words):
    """The pairs in the order of the best model; the hardest and the easiest are named below."""
    means = {kind: _by_pair(seeds) for kind, seeds in results.items()}
    best = max(results, key=lambda kind: np.mean([row["accuracy"] for row in results[kind]]))
    order = [pair for pair in np.argsort(means[best]) if np.isfinite(means[best][pair])]
    for number, kind in enumerate(results):
        if kind in ("static", "bag", best):
            style = {"markersize": 4, "color": COLOURS[number % len(COLOURS)], "linestyle": "none"}
            axes.plot(means[kind][order], "o" if kind == best else ".", label=kind, **style)
    hardest, easiest = (" / ".join(words[pair]) for pair in (order[0], order[-1]))
    axes.set(title=f"each pair, in the order of {best}", xlabel=f"from {hardest} to {easiest}", ylabel="share of right guesses", ylim=(0, 1.05))
    axes.legend(loc="lower right")


def _by_pair(seeds):
    """Mean over seeds: (pairs,), NaN for pairs that do not occur."""
    return np.mean([[np.nan if value is None else value for value in row["by_pair"]] for row in seeds], axis=0)
