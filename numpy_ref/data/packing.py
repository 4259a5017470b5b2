"""Conversations as the rows of a batch: side by side in a row where that saves room, and nothing learnt across a border."""

import numpy as np

from numpy_ref.data.batches import IGNORED
from numpy_ref.errors import UserError


def best_fit_decreasing(lengths, capacity):
    """Which row each text goes to, and where in it: few rows of ``capacity`` tokens, by the oldest good rule there is.

    The longest text first, each into the row with the least room that is room enough, or else into a new one. That needs
    at most 11/9 of the fewest rows possible, and 4 (D. S. Johnson et al., SIAM J. Comput. 3, 1974; for language models:
    arXiv:2404.10830). Of texts of one length the first goes first, of rows with the same room too.

    lengths: (n,) of whole numbers -> row (n,) and start (n,), int64. Raises UserError for a length that no row can hold.
    """
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= capacity:
        wrong = lengths.max() if lengths.max() > capacity else lengths.min()
        raise UserError(f"a text of {wrong} tokens can't go into rows of {capacity}; it must have from 1 to {capacity}")
    room = []
    row, start = np.zeros((2, len(lengths)), np.int64)
    for text in np.argsort(-lengths, kind="stable"):
        fitting = [number for number in range(len(room)) if room[number] >= lengths[text]]
        row[text] = min(fitting, key=lambda number: room[number], default=len(room))
        if not fitting:
            room.append(capacity)
        start[text] = capacity - room[row[text]]
        room[row[text]] -= lengths[text]
    return row, start


def row_width(lengths, context, features):
    """How wide the rows for these texts are best: of 1, 2, 3 and 4 times the longest text, what costs least.

        cost = rows T (1 + T / (6 d))

    Wide rows leave little room empty, but every token is compared with a whole row: in a block of width d the matrix
    products cost 24 d^2 a token, attention 4 T d. Of equal costs the narrower row is taken.

    lengths: (n,) of whole numbers, at most ``context`` -> int.
    """
    longest = int(lengths.max())
    widths = sorted({min(times * longest, context) for times in (1, 2, 3, 4)})

    def cost(width):
        rows = int(best_fit_decreasing(lengths, width)[0].max()) + 1
        return rows * width * (6 * features + width)

    return min(widths, key=cost)


def conversation_batch(ids, weights, borders, chosen, width, packed=True, side="right", multiple=1):
    """The texts number ``chosen``, as rows to learn from.

    Text c is ids[borders[c] : borders[c + 1]], n tokens with their weights in the loss. It takes n - 1 places: each but
    the last token is an input, each but the first a target. So no target lies beyond the border of its text, and none is
    the first token of the next one.

    packed: several texts share a row, by ``best_fit_decreasing``; else each has its own. side: "right" fills rows up
    at their end, "left" at their beginning. multiple: rows of nothing are added until their number is a multiple of it,
    for micro-batches.

    Shapes: ids, weights (N,), borders (C + 1,), chosen (n,) of whole numbers -> inputs, targets (R, width) int64,
    weights (R, width) float64 and documents (R, width) int64, as ``transformer`` takes them: the number of the text in
    its row, -1 where there is none; None where each row is one text from its beginning on, which causality alone keeps
    from seeing what fills it up. Empty places have input 0, target -100 and weight 0.
    Raises UserError for a text that is longer than a row.
    """
    lengths = borders[chosen + 1] - borders[chosen] - 1
    if packed:
        row, start = best_fit_decreasing(lengths, width)
    else:
        _check_fits(lengths, width)
        row, start = np.arange(len(chosen)), np.zeros(len(chosen), np.int64)
    rows = -(-(int(row.max()) + 1) // multiple) * multiple
    inputs, targets, documents = np.zeros((3, rows, width), np.int64)
    targets[:], documents[:] = IGNORED, -1
    share = np.zeros((rows, width))
    used = np.bincount(row, lengths, rows).astype(np.int64)
    start = start + (width - used[row] if side == "left" else 0)
    for place in np.argsort(start, kind="stable"):
        r, here = row[place], slice(start[place], start[place] + lengths[place])
        there, length = borders[chosen[place]], lengths[place]
        inputs[r, here] = ids[there : there + length]
        targets[r, here] = ids[there + 1 : there + length + 1]
        share[r, here] = weights[there + 1 : there + length + 1]
        documents[r, here] = documents[r].max() + 1
    alone = len(chosen) == int(row.max()) + 1 and side == "right"
    return inputs, targets, share, None if alone else documents


def _check_fits(lengths, width):
    if lengths.max() > width:
        raise UserError(f"a text of {lengths.max()} tokens can't go into rows of {width}; make them wider, or split it")
