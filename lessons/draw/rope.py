"""RoPE as rotations: what turns, and why only distances are left."""

import numpy as np

from lessons.draw.picture import BLUE, COLOURS, DASHES, INK, QUIET, drawing
from numpy_ref.model.positions import rope_frequencies, rotary


def rope(width=8, base=10000.0, positions=9, scaling="none", factor=1.0, original_context=0):
    """Left: where each pair of features points at the positions 0, 1, 2, ...; right: scores over the distance.

    The right panel turns one query and one key and multiplies them, the query at three places: the curves are the same.
    """
    frequencies, _ = rope_frequencies(width, base, scaling, factor, original_context)
    pairs = min(4, width // 2)
    with drawing(f"RoPE turns pairs of features: {width // 2} pairs, base {base:g}", 10.5, 4.4) as (figure, picture):
        grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 0.15, 2.3))
        for pair in range(pairs):
            axes = figure.add_subplot(grid[pair // 2, pair % 2])
            _circle(axes, pair * (width // 2 - 1) // max(1, pairs - 1), frequencies, positions)
        _scores(figure.add_subplot(grid[:, 3]), width, frequencies)
    return picture


def _circle(axes, pair, frequencies, positions):
    """Arrows of one pair at each position, paler where the position is further."""
    turn = np.linspace(0, 2 * np.pi, 100)
    axes.plot(np.cos(turn), np.sin(turn), color="#d5d9de", linewidth=1)
    labelled = -1.0
    for position in range(positions):
        angle = position * frequencies[pair]
        x, y = np.cos(angle), np.sin(angle)
        strength = 1 - 0.8 * position / positions
        axes.plot([0, x], [0, y], color=BLUE, alpha=strength, linewidth=1.6)
        if labelled < 0 or angle - labelled > 0.35 and angle < 5.9:
            labelled = angle
            axes.annotate(str(position), (1.18 * x, 1.18 * y), ha="center", va="center", fontsize=8, color=INK)
    axes.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.45), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"pair {pair}: {frequencies[pair]:.3g} rad a token", fontsize=9, loc="center")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _scores(axes, width, frequencies):
    rng = np.random.default_rng(4)
    query = rng.standard_normal(width)
    key = query + 0.3 * rng.standard_normal(width)
    distance = np.arange(0, 41)

    def turned(x, positions):
        angle = positions[:, None] * frequencies
        return rotary(np.broadcast_to(x, (len(positions), width)), np.cos(angle), np.sin(angle))[0]

    for number, place in enumerate((40, 400, 4000)):
        at = np.full(len(distance), place)
        score = np.sum(turned(query, at) * turned(key, at - distance), axis=-1)
        axes.plot(distance, score, color=COLOURS[number], linewidth=5 - 1.8 * number, dashes=DASHES[number], label=f"query at position {place:,}")
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set(title="the same query and key, further and further apart", xlabel="distance in tokens", ylabel="query · key")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.45 * (high - low))  # room for the names
    axes.legend(loc="upper right", ncols=1, fontsize=9)
