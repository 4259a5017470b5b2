"""The picture of the report: components by formats, and how clearly each component's planted bugs show."""

import math
import textwrap

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap  # noqa: E402

from parity_tests.report import one_line, show, shown_columns, smallest_margin  # noqa: E402

INK, FAINT, FAIL, EXACT = "#1c2733", "#8a97a5", "#c6283d", "#e4ebe6"
ERRORS = LinearSegmentedColormap.from_list("errors", ["#eef4fa", "#a8cbe4", "#5596c6", "#2a6a9c", "#123a5c"])
CEILING = 1e8  # margins beyond this, and errors of another kind, are drawn at the edge


def draw(report, path):
    components, columns = report["components"], shown_columns(report)
    height = 0.215 * len(components) + 1.9
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12.5, height), sharey=True, gridspec_kw={"width_ratios": (len(columns), 3.2), "wspace": 0.03}
    )
    _errors(left, components, columns)
    _margins(right, components)
    for axes in (left, right):
        _folders(axes, components, named=axes is left)
        axes.tick_params(length=0, colors=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
    top = {"ha": "left", "va": "top"}  # all in inches from the top, whatever the number of rows
    title = {"fontsize": 15, "fontweight": "bold", "color": INK}
    figure.text(0.02, 1 - 0.15 / height, "Two implementations, one model", **title, **top)
    lines = "\n".join(textwrap.wrap(one_line(report), 150))
    figure.text(0.02, 1 - 0.5 / height, lines, fontsize=8.5, color=FAINT, linespacing=1.4, **top)
    figure.subplots_adjust(left=0.225, right=0.985, top=1 - 1.5 / height, bottom=0.45 / height)
    figure.savefig(path, dpi=140, facecolor="white")
    plt.close(figure)


def _errors(axes, components, columns):
    """One cell a component and format: the worst error in budgets."""
    values = np.full((len(components), len(columns)), np.nan)
    for i, component in enumerate(components):
        for j, column in enumerate(columns):
            found, text = component["cells"][column], show(component, column)
            if found is None:
                axes.text(j, i, "·", ha="center", va="center", color="#c9d1d9", fontsize=8)
                continue
            failed, ratio = found.get("failed"), found.get("ratio", 0.0)
            if failed or component["exact"]:
                axes.add_patch(
                    plt.Rectangle((j - 0.49, i - 0.47), 0.98, 0.94, color=FAIL if failed else EXACT, linewidth=0)
                )
            else:
                values[i, j] = ratio
            color = "white" if failed or (not component["exact"] and ratio > 0.45) else INK
            axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=color)
    image = axes.imshow(values, cmap=ERRORS, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns], fontsize=8.5)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(components)), [component["name"] for component in components], fontsize=8)
    axes.set_xticks(np.arange(-0.5, len(columns)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(components)), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel(
        "worst error, in budgets: 1 is the most that rounding explains", fontsize=8.5, color=FAINT, loc="left"
    )
    return image


def _margins(axes, components):
    """Every planted bug a dot: how many budgets it is off by."""
    for i, component in enumerate(components):
        found = [
            CEILING if bug["margin"] is None else min(max(bug["margin"], 0.1), CEILING) for bug in component["bugs"]
        ]
        caught = sum(bug["caught"] for bug in component["bugs"])
        good = component["planted"] == caught
        axes.plot(found, [i] * len(found), "o", ms=3.4, color="#22577f" if good else FAIL, alpha=0.45, mew=0)
        least = smallest_margin(component)
        if not math.isnan(least):
            axes.plot(min(max(least, 0.1), CEILING), i, "|", ms=9, mew=1.6, color="#e0a030" if good else FAIL)
        axes.text(
            CEILING * 6,
            i,
            f"{caught}/{component['planted']}",
            va="center",
            ha="left",
            fontsize=7.5,
            color=INK if good else FAIL,
        )
    axes.axvline(1, color=FAIL, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(0.1, CEILING * 200)
    axes.set_xticks([1, 1e2, 1e4, 1e6, 1e8], ["1", "100", "$10^4$", "$10^6$", "$10^8$+"], fontsize=8.5)
    axes.xaxis.tick_top()
    axes.minorticks_off()
    axes.set_xlabel("planted bugs, in budgets (above 1: caught)", fontsize=8.5, color=FAINT, loc="left")


def _folders(axes, components, named):
    """A line where the folder changes, and its name on the left."""
    folders = [component["file"].rpartition("/")[0] or "." for component in components]
    start = 0
    for i in range(1, len(folders) + 1):
        if i == len(folders) or folders[i] != folders[start]:
            if named:
                place = axes.get_yaxis_transform()
                axes.text(
                    -0.335,
                    start,
                    folders[start],
                    transform=place,
                    va="center",
                    fontsize=8.5,
                    color=INK,
                    fontweight="bold",
                )
            if i < len(folders):
                axes.axhline(i - 0.5, color=FAINT, linewidth=0.8)
            start = i
