"""Declarations of best_fit_decreasing, row_width and conversation_batch."""

import numpy as np

import numpy_ref.data.packing as numpy_packing
import torch_impl.data.packing as torch_packing
from parity_tests.harness.declaration import Bug, Component


def draw_lengths(source, capacity, most_texts=24):
    """Lengths of texts that all fit: one, many alike, some that fill a row, or any."""
    count = source.integer(1, most_texts)
    kind = source.choice("any", "alike", "halves", "large", "long")
    source.event(kind)
    least = {"any": 1, "alike": max(1, capacity // 3), "halves": max(1, capacity // 2), "large": capacity // 2 + 1, "long": max(1, capacity - 1)}[kind]
    most = {"any": capacity, "alike": max(1, capacity // 3), "halves": max(1, capacity // 2 + 1), "large": capacity, "long": capacity}[kind]
    return source.rng.integers(least, max(least, min(most, capacity)) + 1, count)


def draw(source):
    capacity = source.size(40)
    lengths = draw_lengths(source, capacity)
    source.event("one text", len(lengths) == 1)
    source.event("rows of one token", capacity == 1)
    return source.case({"lengths": lengths}, capacity=capacity)


BEST_FIT_DECREASING = Component(
    name="best_fit_decreasing",
    numpy=numpy_packing.best_fit_decreasing,
    torch=torch_packing.best_fit_decreasing,
    draw=draw,
    exact=True,
    dtypes=("float64",),
    events=("any", "alike", "halves", "large", "long", "one text", "rows of one token"),
    compiles=False,
    bugs=(
        Bug("first fit", "numpy", "min(fitting, key=lambda number: room[number], default=len(room))", "min(fitting, default=len(room))", dtype="float64"),
        Bug("worst fit", "numpy", "key=lambda number: room[number]", "key=lambda number: -room[number]", dtype="float64"),
        Bug("shortest first", "numpy", "np.argsort(-lengths", "np.argsort(lengths", dtype="float64"),
        Bug("in the order given", "numpy", 'np.argsort(-lengths, kind="stable")', "np.arange(len(lengths))", dtype="float64"),
        Bug("a full row is never full", "numpy", "room[number] >= lengths[text]", "room[number] > lengths[text]", dtype="float64"),
        Bug("placed from the end of the room", "numpy", "capacity - room[row[text]]", "room[row[text]]", dtype="float64"),
        Bug("last row of equal room first", "torch", "heapq.heappop(open_rows[room])", "open_rows[room].pop()", dtype="float64"),
        Bug("start after the text", "torch", "capacity - room\n", "capacity - room + length\n", dtype="float64"),
        Bug("largest room that fits", "torch", "length + (enough & -enough).bit_length() - 1", "length + enough.bit_length() - 1", dtype="float64"),
        Bug("a row with room for one token is closed", "torch", "        if left:", "        if left > 1:", dtype="float64"),
    ),
)


def draw_width(source):
    context = source.size(40, least=2)
    lengths = draw_lengths(source, source.choice(context, max(1, context // 2), max(1, context // 4)), 60)
    source.event("wider than four of the longest", context > 4 * lengths.max())
    source.event("narrower than two of the longest", context < 2 * lengths.max())
    return source.case({"lengths": lengths}, context=context, features=source.choice(1, 2, 32, 128))


ROW_WIDTH = Component(
    name="row_width",
    numpy=numpy_packing.row_width,
    torch=torch_packing.row_width,
    draw=draw_width,
    exact=True,
    dtypes=("float64",),
    events=("wider than four of the longest", "narrower than two of the longest"),
    compiles=False,
    bugs=(
        Bug("always the context", "numpy", "min(widths, key=cost)", "context", dtype="float64"),
        Bug("always the longest", "numpy", "min(widths, key=cost)", "longest", dtype="float64"),
        Bug("attention costs nothing", "numpy", "(6 * features + width)", "1", dtype="float64"),
        Bug("beyond the context", "numpy", "min(times * longest, context)", "times * longest", dtype="float64"),
        Bug("attention costs six times as much", "torch", "(6 * features + width)", "(features + 6 * width)", dtype="float64"),
        Bug("the dearest", "torch", "cost < best[0]", "cost > best[0]", dtype="float64"),
        Bug("padding costs nothing", "torch", "count * width *", "int(lengths.sum()) *", dtype="float64"),
    ),
)


def draw_batch(source):
    width = source.size(20)
    lengths = source.rng.integers(1, width + 1, source.integer(1, 12)) + 1
    borders = np.concatenate(([0], np.cumsum(lengths)))
    arrays = {
        "ids": source.rng.integers(0, 300, borders[-1]),
        "weights": source.rng.choice([0.0, 0.25, 1.0], borders[-1]),
        "borders": borders,
        "chosen": source.rng.integers(0, len(lengths), source.integer(1, 16)),
    }
    packed, side, multiple = source.flag(), source.choice("right", "left"), source.choice(1, 1, 2, 3)
    source.event("packed" if packed else "padded")
    source.event(f"filled on the {side}")
    source.event("micro-batches", multiple > 1)
    source.event("a text twice", len(set(arrays["chosen"])) < len(arrays["chosen"]))
    found = numpy_packing.conversation_batch(**arrays, width=width, packed=packed, side=side, multiple=multiple)
    source.event("no documents", found[3] is None)
    source.event("rows of nothing", not (found[1] != -100).any(1).all())
    source.event("several texts in a row", found[3] is not None and found[3].max() > 0)
    return source.case(arrays, width=width, packed=packed, side=side, multiple=multiple)


CONVERSATION_BATCH = Component(
    name="conversation_batch",
    numpy=numpy_packing.conversation_batch,
    torch=torch_packing.conversation_batch,
    draw=draw_batch,
    exact=True,
    dtypes=("float64",),
    events=(
        "packed", "padded", "filled on the right", "filled on the left", "micro-batches", "a text twice", "no documents",
        "rows of nothing", "several texts in a row",
    ),
    compiles=False,
    bugs=(
        Bug("targets not shifted", "numpy", "targets[r, here] = ids[there + 1 : there + length + 1]", "targets[r, here] = ids[there : there + length]", dtype="float64"),
        Bug("weights not shifted", "numpy", "weights[there + 1 : there + length + 1]", "weights[there : there + length]", dtype="float64"),
        Bug("target across the border", "numpy", "borders[chosen + 1] - borders[chosen] - 1", "np.minimum(borders[chosen + 1] - borders[chosen] - 1 + (chosen + 2 < len(borders)), width)", dtype="float64"),
        Bug("padding is learnt", "numpy", "targets[:], documents[:] = IGNORED, -1", "targets[:], documents[:] = 0, -1", dtype="float64"),
        Bug("one document a row", "numpy", "documents[r].max() + 1", "0", dtype="float64"),
        Bug("padding is a document", "numpy", "targets[:], documents[:] = IGNORED, -1", "targets[:], documents[:] = IGNORED, 0", dtype="float64"),
        Bug("padding on the left is not told", "numpy", 'and side == "right"', "", dtype="float64"),
        Bug("no rows of nothing", "torch", "-(-used // multiple) * multiple", "used", dtype="float64"),
        Bug("left is right", "torch", 'if side == "left":', "if False:", dtype="float64"),
        Bug("texts numbered over all rows", "torch", "torch.where(within, 0, torch.arange(len(order))).cummax(0).values", "0", dtype="float64"),
        Bug("weights of the inputs", "torch", "weights[source + 1]", "weights[source]", dtype="float64"),
        Bug("weight of padding", "torch", ".double(), 0.0)", ".double(), 1.0)", dtype="float64"),
    ),
)

COMPONENTS = (BEST_FIT_DECREASING, ROW_WIDTH, CONVERSATION_BATCH)
