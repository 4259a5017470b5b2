"""Groups of answers: what each is compared with, and what it learns from that."""

import numpy as np

from lessons.draw.picture import BLUE, INK, QUIET, RED, drawing
from numpy_ref.grpo.advantages import group_advantages, informative

NAMES = {"deviation": "GRPO: divided by the deviation", "mean": "Dr. GRPO: from the mean", "rloo": "from the mean of the others"}


def grpo(rewards, kinds=("deviation", "mean"), title="What a group of answers teaches"):
    """Above: the rewards of each group and their mean; below: the advantages, one panel a kind. rewards (P, G)."""
    rewards = np.asarray(rewards, float)
    with drawing(title, 10.5, 2.5 + 2.2 * len(kinds)) as (figure, picture):
        panels = figure.subplots(1 + len(kinds), 1, sharex=True, height_ratios=[1.1] + [1] * len(kinds))
        _rewards(panels[0], rewards)
        for axes, kind in zip(panels[1:], kinds):
            _advantages(axes, group_advantages(rewards, kind), kind)
        panels[-1].set_xticks(range(len(rewards)), [f"prompt {number}" for number in range(1, len(rewards) + 1)])
    return picture


def _places(rewards):
    """Where each answer stands: its group's number, and a little beside it."""
    groups, size = rewards.shape
    return np.arange(groups)[:, None] + np.linspace(-0.3, 0.3, size)


def _rewards(axes, rewards):
    x, teaches = _places(rewards), informative(rewards)
    for group, there in enumerate(teaches):
        axes.plot(x[group], np.sort(rewards[group]), "o", color=INK if there else QUIET, markersize=5, markerfacecolor=None if there else "white")
        axes.plot([group - 0.38, group + 0.38], [rewards[group].mean()] * 2, color=QUIET, linewidth=1.2)
        if not there:
            axes.annotate("all equal:\nteaches nothing", (group, rewards[group, 0]), xytext=(0, 12 if rewards[group, 0] < 0.5 else -30), textcoords="offset points", ha="center", fontsize=8, color=QUIET)
    axes.set(title="rewards, and the mean of each group", ylabel="reward")
    axes.margins(y=0.18)
    axes.grid(axis="x", visible=False)


def _advantages(axes, advantages, kind):
    x = _places(advantages)
    for group, own in enumerate(advantages):
        own = np.sort(own)
        colours = [BLUE if value > 0 else RED for value in own]
        axes.bar(x[group], own, width=0.6 / len(own), color=colours, hatch=None, edgecolor="white", linewidth=0.5)
        if own.any():
            axes.annotate(f"{own[-1]:+.2f}", (x[group][-1], own[-1]), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8, color=BLUE)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set(title=NAMES[kind], ylabel="advantage")
    axes.margins(y=0.2)
    axes.grid(axis="x", visible=False)
