"""The pictures of reward models and of DPO: a run, how well it knows what it knows, and what happens when it is trusted."""

import math

import numpy as np

from numpy_ref.plots import BLUE, INK, PALE, QUIET, RED, canvas, smooth

DEFINITION = "pictures of numbers that the wings computed"


def training(rows, path, title="Training on preferences"):
    """Loss, pair accuracy and lead over steps, from the rows of ``log.jsonl``, as a PNG at ``path``."""
    rows = [row for row in rows if row.get("loss") is not None]
    panels = {"loss": ("Loss", "nats per pair"), "accuracy": ("Pairs in the right order", "share"),
              "lead": ("Lead of the better answer", "reward")}  # fmt: skip
    with canvas(path, figsize=(8, 8)) as figure:
        figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold")
        for axes, (name, (head, unit)) in zip(figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2)), panels.items()):
            steps, values = _column(rows, name)
            axes.plot(steps, values, color=PALE, linewidth=0.8, label="training, each step")
            axes.plot(steps, smooth(values), color=BLUE, linewidth=1.8, label="training, smoothed")
            steps, values = _column(rows, f"val_{name}")
            axes.plot(steps, values, color=RED, linewidth=1, marker="o", markersize=4, label="held-out")
            axes.set(title=head, ylabel=unit)
            if name == "accuracy":
                axes.axhline(0.5, color=QUIET, linewidth=1, linestyle=":")
                axes.set_ylim(min(0.4, *values, 1), 1.01)
        figure.axes[0].legend(loc="upper right")
        figure.axes[-1].set_xlabel("optimiser step")
        figure.align_ylabels()


def _column(rows, name):
    """(steps, values) of the rows that have the number."""
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def calibration(found, path, title="Calibration of a reward model"):
    """How sure the model is against how often it is right, and how sure it is how often, as a PNG at ``path``.

    ``found``: name -> (confidence, accuracy, count, error) of ``evaluation.calibration``; one line for each name.
    """
    with canvas(path, figsize=(7, 6.5)) as figure:
        figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold")
        line, bars = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        line.plot((0.5, 1), (0.5, 1), color=QUIET, linewidth=1, linestyle=":", label="as often right as it is sure")
        bins = max(len(values[0]) for values in found.values())
        width = 0.5 / bins / len(found) * 0.8
        for number, (name, (confidence, accuracy, count, error)) in enumerate(found.items()):
            colour = (BLUE, RED, INK, QUIET)[number % 4]
            some = np.asarray(count) > 0
            line.plot(np.asarray(confidence)[some], np.asarray(accuracy)[some], color=colour, marker="o", markersize=5,
                      linewidth=1.6, label=f"{name}: expected error {float(error):.3f}")  # fmt: skip
            middle = 0.5 + 0.5 * (np.arange(len(count)) + 0.5) / len(count) + (number - (len(found) - 1) / 2) * width
            bars.bar(middle, np.asarray(count) / max(1, int(np.sum(count))), width=width, color=colour)
        line.set(title="How often the preferred answer is the better one", ylabel="share of the pairs", ylim=(0.3, 1.02))
        line.legend(loc="lower right")
        bars.set(title="How sure it is", ylabel="share of the pairs", xlabel="confidence sigmoid(|r_c - r_r|)", xlim=(0.49, 1.01))
        figure.align_ylabels()


def accuracy(found, edges, path, title="Pair accuracy by the margin of the truth"):
    """Share of pairs in the right order where the answers are close in worth and where they are far apart.

    ``found``: name -> (accuracy (K,), count (K,)) of ``evaluation.accuracy_by`` with these ``edges`` (K + 1,).
    """
    with canvas(path, figsize=(8.5, 4.4)) as figure:
        axes = figure.subplots()
        figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold")
        labels = [f"{low:.2g} to {high:.2g}" for low, high in zip(edges[:-1], edges[1:])]
        width = 0.8 / len(found)
        for number, (name, (share, count)) in enumerate(found.items()):
            place = np.arange(len(labels)) + (number - (len(found) - 1) / 2) * width
            axes.bar(place, share, width=width, color=(BLUE, RED, INK, QUIET)[number % 4], label=name)
            for x, value, pairs in zip(place, share, count):
                axes.annotate(f"{value:.1%}\n{pairs} pairs" if pairs else "no pairs", (x, value), ha="center", va="bottom", fontsize=7.5)
        axes.axhline(0.5, color=QUIET, linewidth=1, linestyle=":")
        axes.set(xlabel="how much more the chosen answer is worth", ylabel="share in the right order", ylim=(0, 1.15))
        axes.set_xticks(range(len(labels)), labels)
        if len(found) > 1:  # above the bars, which leave no corner free
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(found))


def over_optimisation(curves, numbers, path, title="Best of n by the model's reward"):
    """What the best of n answers is truly worth, and what the model thinks of it, as a PNG at ``path``.

    ``curves``: name -> (true worth (K,), model's reward (K,), worth of the truly best (K,)) for each of ``numbers`` (K,).
    The upper axis is the KL divergence of best-of-n from its policy, ln n - (n - 1) / n nats, at most (arXiv:2009.01325, app. G.3).
    """
    with canvas(path, figsize=(8, 6.5)) as figure:
        figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold")
        truth, model = figure.subplots(2, 1, sharex=True)
        for number, (name, (worth, reward, oracle)) in enumerate(curves.items()):
            style = {"color": (BLUE, RED, INK, QUIET)[number % 4], "marker": "o", "markersize": 4, "linewidth": 1.8}
            truth.plot(numbers, worth, label=name, **style)
            truth.plot(numbers, oracle, **style | {"linewidth": 1, "linestyle": ":", "marker": "none"})
            model.plot(numbers, reward, **style)
        truth.set(title="True worth of the answer taken; dotted: of the truly best of the n", ylabel="worth, 0 to 1", xscale="log")
        model.set(title="The model's reward for it", ylabel="reward", xlabel="n")
        model.set_xticks(numbers, [str(number) for number in numbers])
        model.minorticks_off()
        upper = truth.secondary_xaxis("top", functions=(lambda n: n, lambda n: n))
        upper.set_xticks(numbers, [f"{kl_of_best_of(number):.2f}" for number in numbers])
        upper.minorticks_off()
        upper.set_xlabel("KL from the policy, nats, at most", fontsize=9)
        truth.legend(loc="best")
        figure.align_ylabels()


def kl_of_best_of(n):
    """KL divergence of best-of-n sampling from the policy, in nats, where no two answers are alike."""
    return math.log(n) - (n - 1) / n
