"""How surprising each byte of a text is, and where it is cut into patches."""

import numpy as np

from lessons.draw.picture import BLUE, COLOURS, INK, drawing


def patches(text, entropies, cuts, title="Where the next byte is hard to predict"):
    """Bars of the entropy before each byte (T,) in nats; below, a row of boxes for each way to cut.

    text: str of T bytes; cuts: name -> bool (T + 1,), whether a patch begins before byte t.
    """
    signs = ["·" if letter == " " else letter for letter in text]
    with drawing(title, 11, 2.6 + 0.45 * len(cuts)) as (figure, picture):
        bars, rows = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 0.5 * len(cuts)))
        bars.bar(range(len(text)), entropies, color=BLUE, width=0.8)
        bars.set_ylabel("nats")
        bars.grid(axis="x", visible=False)
        bars.tick_params(labelbottom=False)
        for y, (name, starts) in enumerate(cuts.items()):
            _row(rows, y, name, signs, np.flatnonzero(starts[:-1]).tolist() + [len(text)])
        rows.set(xlim=(-0.6, len(text) - 0.4), ylim=(len(cuts) - 0.4, -0.6), yticks=range(len(cuts)), yticklabels=list(cuts), xticks=[])
        rows.grid(False)
        for side in ("left", "bottom"):
            rows.spines[side].set_visible(False)
    return picture


def _row(axes, y, name, signs, places):
    from matplotlib.patches import Rectangle

    for number, (start, end) in enumerate(zip(places, places[1:])):
        tint = ("#cfe3f3", "#fbe3c0")[number % 2]
        axes.add_patch(Rectangle((start - 0.48, y - 0.36), end - start - 0.04, 0.72, facecolor=tint, edgecolor=COLOURS[0], linewidth=0.6))
        for place in range(start, end):
            axes.text(place, y, signs[place], ha="center", va="center", fontsize=8, family="monospace", color=INK)
