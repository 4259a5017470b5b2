"""A conversation as the model reads it: which tokens are given, and which are to be learnt."""

from lessons.draw.picture import BLUE, INK, QUIET, drawing

COLUMNS = 64


def conversation(pieces, weights, title="What counts in the loss"):
    """Tokens in reading order; what has weight is blue and underlined, what is only given is pale.

    pieces: a short text for each token; weights: its weight in the loss of predicting it.
    """
    rows, row, column = [], [], 0
    for piece, weight in zip(pieces, weights):
        wide = max(1, len(piece))
        if column + wide > COLUMNS:
            rows.append(row)
            row, column = [], 0
        row.append((column, wide, piece, float(weight)))
        column += wide
    rows.append(row)
    with drawing(title, 10.5, 0.42 * len(rows) + 0.9) as (figure, picture):
        axes = figure.subplots()
        for y, line in enumerate(rows):
            for column, wide, piece, weight in line:
                _token(axes, column, y, wide, piece, weight)
        axes.text(0, len(rows) + 0.45, "blue, underlined: learnt", color=BLUE, fontsize=9, va="center")
        axes.text(19, len(rows) + 0.45, "grey: given, weight 0", color=QUIET, fontsize=9, va="center")
        axes.set(xlim=(-0.5, COLUMNS + 0.5), ylim=(len(rows) + 0.9, -0.2))
        axes.axis("off")
    return picture


def _token(axes, column, y, wide, piece, weight):
    from matplotlib.patches import Rectangle

    face, ink = ("#cfe3f3", INK) if weight else ("#f1f2f4", QUIET)
    axes.add_patch(Rectangle((column + 0.04, y + 0.08), wide - 0.08, 0.8, facecolor=face, edgecolor="none", alpha=0.35 + 0.65 * (weight or 1)))
    if weight:
        axes.plot([column + 0.1, column + wide - 0.1], [y + 0.88] * 2, color=BLUE, linewidth=2)
    signs = {" ": "·", "\n": "↵"}
    for place, letter in enumerate(piece):
        axes.text(column + place + 0.5, y + 0.48, signs.get(letter, letter), ha="center", va="center", fontsize=9.5, family="monospace", color=ink)
