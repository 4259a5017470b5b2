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


ROWS = 110  # of a column; more components make more columns
NAMES, ERROR_CELLS, MARGINS, GAP, TOP, BOTTOM, ROW = 2.9, 5.2, 2.7, 0.5, 1.5, 0.45, 0.215  # inches


def draw(report, path):
    """Write the picture. All lengths in inches, so that rows look alike however many there are."""
    columns = shown_columns(report)
    components = sorted(report["components"], key=_first_of_its_folder(report["components"]))
    number = max(1, math.ceil(len(components) / ROWS))
    rows = max(1, math.ceil(len(components) / number))
    width, height = number * (NAMES + ERROR_CELLS + MARGINS + GAP), ROW * rows + TOP + BOTTOM
    figure = plt.figure(figsize=(width, height))
    for place in range(number):
        own = components[place * rows : (place + 1) * rows]
        x, high = place * (NAMES + ERROR_CELLS + MARGINS + GAP) + NAMES, ROW * len(own)
        box = {"bottom": (height - TOP - high) / height, "height": high / height}
        left = figure.add_axes((x / width, box["bottom"], ERROR_CELLS / width, box["height"]))
        right = figure.add_axes(((x + ERROR_CELLS + 0.1) / width, box["bottom"], MARGINS / width, box["height"]), sharey=left)
        _errors(left, own, columns)
        _margins(right, own)
        right.tick_params(labelleft=False)
        for axes in (left, right):
            _folders(axes, own, named=axes is left)
            axes.tick_params(length=0, colors=INK)
            for spine in axes.spines.values():
                spine.set_visible(False)
    style = {"ha": "left", "va": "top"}
    figure.text(0.2 / width, 1 - 0.15 / height, "Two implementations, one model", fontsize=15, fontweight="bold", color=INK, **style)
    lines = "\n".join(textwrap.wrap(one_line(report), 150))
    figure.text(0.2 / width, 1 - 0.5 / height, lines, fontsize=8.5, color=FAINT, linespacing=1.4, **style)
    figure.savefig(path, dpi=140 if number == 1 else 80, facecolor="white")
    plt.close(figure)


def _first_of_its_folder(components):
    """What sorts components by folder, folders in the order in which they first come up."""
    order = list(dict.fromkeys(_folder(component) for component in components))
    return lambda component: order.index(_folder(component))


def _folder(component):
    return component["file"].rpartition("/")[0] or "."


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
    folders = [_folder(component) for component in components]
    start = 0
    for i in range(1, len(folders) + 1):
        if i == len(folders) or folders[i] != folders[start]:
            if named:
                place = axes.get_yaxis_transform()
                axes.text(
                    0.1 / ERROR_CELLS - NAMES / ERROR_CELLS,
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
