"""Rows of a batch from texts of different lengths, with little padding and no target across a border."""

import heapq

import torch

from numpy_ref.errors import UserError
from torch_impl.data.batches import IGNORED


def best_fit_decreasing(lengths, capacity):
    """Bin packing by best fit decreasing (D. S. Johnson et al. 1974): row and first place of each text.

    Texts in order of falling length go to the fullest row that still holds them. Ties: the earlier text, the earlier row.
    Rows are kept by the room they have left, and which rooms exist as the bits of a number, so that a text costs one
    shift and a heap. Shapes: lengths (n,) integers in 1..capacity -> row and start, (n,) int64 each. UserError otherwise.
    """
    lengths = torch.as_tensor(lengths)
    if len(lengths) and not (1 <= int(lengths.min()) and int(lengths.max()) <= capacity):
        raise UserError(
            f"texts of {int(lengths.min())} to {int(lengths.max())} tokens don't all fit rows of {capacity}; "
            f"give lengths from 1 to {capacity}"
        )
    order = torch.argsort(lengths, descending=True, stable=True).tolist()
    size, rows = lengths.tolist(), 0
    open_rows, rooms = {}, 0  # room -> heap of rows; bit r is set where some row has room r
    row, start = [0] * len(size), [0] * len(size)
    for text in order:
        length = size[text]
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            number = heapq.heappop(open_rows[room])
            if not open_rows[room]:
                rooms ^= 1 << room
        else:
            number, room, rows = rows, capacity, rows + 1
        row[text], start[text] = number, capacity - room
        left = room - length
        if left:
            heapq.heappush(open_rows.setdefault(left, []), number)
            rooms |= 1 << left
    return torch.tensor(row, dtype=torch.int64), torch.tensor(start, dtype=torch.int64)


def row_width(lengths, context, features):
    """The width that makes a batch cheapest, of 1 to 4 times the longest text, at most the context; the smallest of those.

    A row of T tokens costs T (24 d^2 + 4 T d) a block: rows * T * (6 d + T) is what is compared.
    Shapes: lengths (n,) integers -> int.
    """
    lengths = torch.as_tensor(lengths)
    best = None
    for times in range(1, 5):
        width = min(times * int(lengths.max()), context)
        count = int(best_fit_decreasing(lengths, width)[0].max()) + 1
        cost = count * width * (6 * features + width)
        if best is None or cost < best[0]:
            best = cost, width
    return best[1]


def conversation_batch(ids, weights, borders, chosen, width, packed=True, side="right", multiple=1):
    """Inputs, targets, weights and documents of the texts ``chosen``, text c being ids[borders[c] : borders[c + 1]].

    A text of n tokens fills n - 1 places with its tokens but the last, and has its tokens but the first as targets.
    Texts share rows where ``packed``; the rest of a row, on the given side, is padding: input 0, target -100, weight 0,
    document -1. Their number is brought to a multiple of ``multiple`` by rows of padding.
    Shapes: ids, weights (N,), borders (C + 1,), chosen (n,) -> inputs, targets (R, width) int64, weights (R, width)
    float64, documents (R, width) int64; None for documents where no row needs them: one text each, padded on the right.
    UserError for a text longer than a row.
    """
    ids, weights, borders, chosen = (torch.as_tensor(x) for x in (ids, weights, borders, chosen))
    first, lengths = borders[chosen].long(), (borders[chosen + 1] - borders[chosen]).long() - 1
    if packed:
        row, start = best_fit_decreasing(lengths, width)
    elif int(lengths.max()) > width:
        raise UserError(
            f"a text of {int(lengths.max())} tokens is longer than a row of {width}; split it or widen the rows"
        )
    else:
        row, start = torch.arange(len(lengths)), torch.zeros(len(lengths), dtype=torch.int64)
    used = int(row.max()) + 1
    rows = -(-used // multiple) * multiple
    if side == "left":
        start = start + width - torch.zeros(used, dtype=torch.int64).index_add_(0, row, lengths)[row]

    order = torch.argsort(row * width + start)  # the texts as they stand in the rows
    within = row[order] - torch.cat((row.new_tensor([-1]), row[order][:-1])) == 0  # follows another text of its row
    number = torch.arange(len(order)) - torch.where(within, 0, torch.arange(len(order))).cummax(0).values
    count = lengths[order]
    inside = torch.arange(int(count.sum())) - torch.repeat_interleave(count.cumsum(0) - count, count)
    place = torch.repeat_interleave(row[order] * width + start[order], count) + inside
    source = torch.repeat_interleave(first[order], count) + inside

    def filled(values, empty):
        return torch.full((rows * width,), empty, dtype=values.dtype).index_copy(0, place, values).view(rows, width)

    inputs, targets = filled(ids[source].long(), 0), filled(ids[source + 1].long(), IGNORED)
    shares = filled(weights[source + 1].double(), 0.0)
    if len(order) == used and side == "right":
        return inputs, targets, shares, None
    return inputs, targets, shares, filled(torch.repeat_interleave(number, count), -1)
