"""The pictures of reinforcement learning: what it earns, how far it goes, what it costs."""

import json
from pathlib import Path

from numpy_ref.plots import BLUE, INK, PALE, QUIET, RED, canvas, smooth

DEFINITION = "pictures of numbers that the wings computed"

BEFORE = "before.json"  # the evaluation before the first step

ANSWERS = "Right answers to held-out prompts"

# title, unit, the lines of a panel: (name in the log, label, colour). A panel without any of its numbers is left out.
PANELS = (
    ("Reward", "mean", (("reward", "rollouts", BLUE), ("val_reward", "held-out, greedy", RED))),
    (ANSWERS, "share", (("val_greedy", "greedy", RED), ("val_pass_1", "sampled", BLUE))),
    ("Distance from the reference", "nats a token", (("kl", "k1", BLUE), ("kl_k3", "k3", RED))),
    ("Distance from the policy that wrote the rollout", "nats a token", (("kl_old", "", BLUE),)),
    ("Price of the distance, adapted", "times its setting", (("kl_weight", "", BLUE),)),
    ("Difficulty", "place among the tasks", (("level", "", BLUE),)),
    ("Entropy of the tokens that are learnt from", "nats", (("entropy", "", BLUE),)),
    ("Completions", "tokens", (("length", "mean", BLUE), ("length_max", "longest", QUIET))),
    ("Completions that end, and groups that are all alike", "share", (
        ("ended", "ended", BLUE), ("zero_variance", "alike", RED))),
    ("Clipped tokens", "share", (("clip_low", "below", BLUE), ("clip_high", "above", RED))),
    ("Ratio to the old policy", "", (("ratio_max", "largest", RED), ("ratio_mean", "mean", BLUE))),
    ("Variance explained by the critic", "share", (("explained_variance", "", BLUE),)),
    ("Gradient norm, before clipping", "L2 norm", (("grad_norm", "", BLUE),)),
)  # fmt: skip
FLAT = 1e-3  # numbers that differ by less are drawn as one
PHASES = (("seconds_generation", "generation", BLUE), ("seconds_scoring", "scoring", PALE), ("seconds_update", "update", RED))


def with_before(rows, folder):
    """The rows of a log behind that of the evaluation before the first step, if the folder has one."""
    path = Path(folder) / BEFORE
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        return [{"step": 0} | {f"val_{name}": float(value) for name, value in before.items()}, *rows]
    except (OSError, ValueError, TypeError, AttributeError):
        return rows


def training(rows, path, title="Reinforcement learning"):
    """Everything that the log of a run tells, over steps, as a PNG at ``path``."""
    panels = [panel for panel in _panels(rows) if any(_column(rows, name)[0] for name, *_ in panel[2])]
    height = -(-(len(panels) + 1) // 2)
    with canvas(path, figsize=(11, 2.3 * height)) as figure:
        figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold")
        grid = figure.subplots(height, 2, squeeze=False, sharex=True).ravel()
        for axes, (head, unit, lines) in zip(grid, panels):
            for name, label, colour in lines:
                _line(axes, rows, name, label, colour)
            axes.set(title=head, ylabel=unit)
            _flat(axes, [value for name, *_ in lines for value in _column(rows, name)[1]])
            if any(label for _, label, _ in lines):
                axes.legend(loc="best", fontsize=8)
        _phases(grid[len(panels)], rows)
        for axes in grid[len(panels) + 1 :]:
            axes.remove()
        for axes in grid[max(0, len(panels) - 1) : len(panels) + 1]:
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)
        grid[0].xaxis.get_major_locator().set_params(integer=True)
        figure.align_ylabels()


def _panels(rows):
    """PANELS, with as many samples of a prompt as the evaluations had."""
    counts = {int(name.removeprefix("val_pass_")) for row in rows for name in row if name.removeprefix("val_pass_").isdecimal()} - {1}
    for head, unit, lines in PANELS:
        many = [(f"val_pass_{n}", f"any of {n} samples", INK) for n in sorted(counts)]
        yield head, unit, (*lines, *many) if head == ANSWERS else lines


def _line(axes, rows, name, label, colour):
    """Numbers of every step faint and smoothed; those of evaluations as points."""
    steps, values = _column(rows, name)
    if name.startswith("val_"):
        axes.plot(steps, values, color=colour, linewidth=1, marker="o", markersize=4, label=label)
    elif len(steps) < len([row for row in rows if "reward" in row]):  # measured now and then
        axes.plot(steps, values, color=colour, linewidth=1.2, marker="o", markersize=3, label=label)
    elif len(steps) > 40:
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(steps, smooth(values), color=colour, linewidth=1.7, label=label)
    else:
        axes.plot(steps, values, color=colour, linewidth=1.5, label=label)


def _flat(axes, values):
    """A scale on which rounding errors do not look like a curve."""
    if values and 0 <= min(values) and max(values) - min(values) < FLAT:
        top = max(2 * max(values), 100 * FLAT)
        axes.set_ylim(-0.03 * top, top)


def _phases(axes, rows):
    """Where the seconds of a step went, one above the other."""
    steps, _ = _column(rows, PHASES[0][0])
    values = [_column(rows, name)[1] for name, *_ in PHASES]
    axes.stackplot(steps, values, labels=[label for _, label, _ in PHASES], colors=[colour for *_, colour in PHASES])
    axes.set(title="Time of a step", ylabel="seconds")
    axes.legend(loc="lower left", ncols=len(PHASES), fontsize=8, frameon=True, edgecolor="none")


def _column(rows, name):
    """(steps, values) of the rows that have the number."""
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]
