"""Pictures of the experiment with units of thought."""

import numpy as np

from numpy_ref.plots import INK, QUIET, canvas, halo
from numpy_ref.run_plots import COLOURS, DASHES

DEFINITION = "pictures of numbers that the wings computed"


def accuracies(curves, guesses, path):
    """Right answers over training, and at its end, as a PNG at ``path``.

    curves: {arm: [(steps, accuracies) of each seed]}, all seeds of an arm with the same steps; guesses: {name: share that
    is right without following any edge}.
    """
    with canvas(path, figsize=(10, 4.6)) as figure:
        over, end = figure.subplots(1, 2, width_ratios=(3, 2))
        figure.suptitle("Right answers on held-out problems", x=0.02, ha="left", fontsize=13, fontweight="bold")
        for number, (arm, seeds) in enumerate(curves.items()):
            colour, steps = COLOURS[number % len(COLOURS)], seeds[0][0]
            values = np.array([accuracy for _, accuracy in seeds])
            over.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
            over.plot(steps, values.mean(0), color=colour, linewidth=1.8, dashes=DASHES[number % len(DASHES)])
            place, last = len(curves) - 1 - number, values[:, -1]
            end.barh(place, last.mean(), color=colour, alpha=0.35, height=0.62)
            end.plot(last, np.full(len(last), place), "o", color=colour, markersize=4.5)
            end.annotate(f"{last.mean():.3f}", (0.02, place), va="center", color=INK, fontweight="bold", path_effects=halo())
        for name, share in guesses.items():
            over.axhline(share, color=QUIET, linewidth=1, linestyle=":")
            over.annotate(
                name, (1, share), xycoords=over.get_yaxis_transform(), xytext=(-3, 3), textcoords="offset points", ha="right",
                color=QUIET, fontsize=9, path_effects=halo(),
            )  # fmt: skip
        over.set(title="over training: mean and range of the seeds", xlabel="optimiser step", ylabel="share of right answers", ylim=(0, 1.03))
        end.set(title="at the end: mean, and each seed", xlabel="share of right answers", xlim=(0, 1.03))
        end.set_yticks(range(len(curves)), list(reversed(curves)))
        for label, number in zip(end.get_yticklabels(), reversed(range(len(curves)))):
            label.set(color=COLOURS[number % len(COLOURS)], fontweight="bold")
        end.grid(axis="y", visible=False)


def widths(shares, numbers, path):
    """Chains that arrive against chains tried, as a PNG at ``path``.  shares: {way: [shares by number, of each seed]}."""
    with canvas(path, figsize=(7, 4.4)) as figure:
        axes = figure.subplots()
        axes.set_title("Ways to a goal: what a search over units gains", loc="left", fontsize=13, fontweight="bold")
        for number, (way, seeds) in enumerate(shares.items()):
            colour, values = COLOURS[number % len(COLOURS)], np.array(seeds)
            axes.fill_between(numbers, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
            line = {"color": colour, "linewidth": 1.8, "dashes": DASHES[number % len(DASHES)]}
            axes.plot(numbers, values.mean(0), marker="o", markersize=4.5, label=way, **line)
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.set(xlabel="chains tried for each problem", ylabel="share of chains that arrive", ylim=(0, 1.03))
        axes.legend(frameon=False, loc="lower right")
