"""Declarations of windows, batch and evaluation_windows."""

import tempfile

import numpy as np

import numpy_ref.data.batches as numpy_batches
import torch_impl.data.batches as torch_batches
from numpy_ref.errors import UserError
from parity_tests.harness.declaration import Bug, Case, Component

# -- windows ------------------------------------------------------------------------------------------------------


def draw_windows(source):
    context, stride = source.size(), source.choice(1, 2, source.size())
    exact = (source.integer(0, 5)) * stride + context + 1
    length = source.choice(exact, exact - 1, exact + 1, source.integer(0, context + 1), 0, 10**12)
    source.event("exactly filled", length == exact)
    source.event("too short", length <= context)
    source.event("stride above 1", stride > 1)
    source.event("stride above the context", stride > context)
    return source.case({}, length=length, context=context, stride=stride)


WINDOWS = Component(
    name="windows",
    numpy=numpy_batches.windows,
    torch=torch_batches.windows,
    draw=draw_windows,
    exact=True,
    dtypes=("float64",),
    events=("exactly filled", "too short", "stride above 1", "stride above the context"),
    compiles=False,
    bugs=(
        Bug("no token for the last target", "numpy", "length - context - 1", "length - context"),
        Bug("last window left out", "numpy", "// stride + 1", "// stride"),
        Bug("stride ignored", "numpy", "// stride", "// 1"),
        Bug(
            "fewer than none",
            "numpy",
            "max(0, (length - context - 1) // stride + 1)",
            "(length - context - 1) // stride + 1",
        ),
        Bug(
            "a window that does not fit",
            "torch",
            "(length - context - 1) // stride",
            "-(-(length - context - 1) // stride)",
        ),
        Bug("windows do not overlap", "torch", "// stride", "// (context + 1)"),
    ),
)


# -- batch --------------------------------------------------------------------------------------------------------


def corpus(source, length):
    """(arrays, static) with ``length`` tokens: a tensor on the Torch side, or an array or a memory map on both."""
    number_format = source.choice(np.uint8, np.uint16, np.int32)
    source.event(np.dtype(number_format).name)
    # Each token its own number as far as the format allows, so that every wrong place shows.
    tokens = (np.arange(length) + source.integer(0, 10**6)).astype(number_format)
    kind = source.choice("tensor", "array", "memory map")
    source.event(kind)
    if kind == "tensor":
        return {"tokens": tokens}, {}
    return {}, {"tokens": mapped(tokens) if kind == "memory map" and length else tokens}


def mapped(tokens):
    """The same tokens in a file; the map keeps them when the file has no name any more."""
    with tempfile.TemporaryFile() as file:
        result = np.memmap(file, tokens.dtype, "w+", shape=tokens.shape)
    result[:] = tokens
    return result


def draw_batch(source):
    long = source.integer(0, 3) == 0
    context, stride = source.integer(1, 6) if long else source.size(17), source.choice(1, 2, source.integer(1, 9))
    count = source.integer(4100, 4200) if long else source.choice(0, 1, 2, source.integer(3, 40))
    length = max(0, (count - 1) * stride + context + 1) + source.integer(0, stride - 1)
    if count == 0:
        length = source.integer(0, context)
    batch_size = source.size(17)
    epoch = source.choice(0, 1, source.integer(2, 5000))
    near = torch_batches._BLOCK - source.integer(1, 9)
    place = source.choice(near, count - 1) if long else source.choice(0, 1, count // 2, count - 1)
    position = epoch * count + max(0, min(place, count - 1))
    arrays, static = corpus(source, length)
    source.event("too short", count == 0)
    source.event("one window", count == 1)
    source.event("stride above 1", stride > 1)
    if count:
        source.event("crosses an epoch", position % count + batch_size > count)
        source.event("several epochs in a batch", batch_size > 2 * count)
        source.event(
            "crosses a block", long and position % count < torch_batches._BLOCK < position % count + batch_size
        )
    static |= {"position": position, "batch_size": batch_size, "context": context, "stride": stride}
    static |= share(source, batch_size)
    return source.case(arrays, seed=source.choice(0, source.integer(0, 2**64 - 1)), **static)


def share(source, batch_size):
    """Which part of the batch: {"rank", "world"}; now and then a part that does not exist."""
    world = source.choice(1, 1, 2, 3, source.integer(1, batch_size), batch_size + 1)
    rank = source.integer(0, world - 1)
    source.event("several processes", 1 < world <= batch_size)
    own = (rank + 1) * batch_size // world - rank * batch_size // world
    source.event("a larger part than others", world <= batch_size and own > batch_size // world)
    source.event("more processes than sequences", world > batch_size)
    return {"rank": rank, "world": world}


def or_refusal(function, arguments):
    """What both refuse counts as equal: the words differ, the class of error does not."""
    try:
        result = function(**arguments)
        return result if isinstance(result, tuple) else list(result)
    except UserError:
        return "refused"


def showcase(rng):
    tokens = rng.integers(0, 256, 10**6).astype(np.uint8)
    return Case({"tokens": tokens}, {"position": 999_990, "batch_size": 32, "context": 128, "seed": 1})


BATCH = Component(
    name="batch",
    numpy=numpy_batches.batch,
    torch=torch_batches.batch,
    weight=3,
    draw=draw_batch,
    call=or_refusal,
    exact=True,
    dtypes=("float64",),
    events=(
        *("uint8", "uint16", "int32", "tensor", "array", "memory map", "too short", "one window", "stride above 1"),
        *("crosses an epoch", "several epochs in a batch", "crosses a block"),
        *("several processes", "a larger part than others", "more processes than sequences"),
    ),
    compiles=False,
    shapes={"showcase": showcase},
    bugs=(
        Bug(
            "targets not shifted",
            "numpy",
            "return chosen[:, :-1], chosen[:, 1:]",
            "return chosen[:, :-1], chosen[:, :-1]",
        ),
        Bug("inputs shifted as well", "numpy", "return chosen[:, :-1]", "return chosen[:, 1:]"),
        Bug("window one late", "numpy", "np.arange(context + 1)", "np.minimum(np.arange(1, context + 2), context)"),
        Bug("every epoch in the same order", "numpy", "STREAM_ORDER + int(epoch)", "STREAM_ORDER", "_starts"),
        Bug(
            "not shuffled",
            "numpy",
            "permuted(places[here], count, seed, STREAM_ORDER + int(epoch))",
            "places[here]",
            "_starts",
        ),
        Bug("seed ignored", "numpy", "count, seed, STREAM_ORDER", "count, 0, STREAM_ORDER", "_starts"),
        Bug("stride ignored", "numpy", "window * stride", "window", "_starts"),
        Bug(
            "every process has the whole batch",
            "numpy",
            "rank * batch_size // world, (rank + 1)",
            "0 * rank, world",
            "_starts",
        ),
        Bug(
            "parts of one size alone",
            "numpy",
            "(rank + 1) * batch_size // world",
            "rank * batch_size // world + batch_size // world",
            "_starts",
            needs=("a larger part than others",),
        ),
        Bug("parts taken in turn", "torch", "stride, rank, world)", "stride, 0, 1)[rank::world]"),
        Bug(
            "the next process's part",
            "torch",
            "(rank, rank + 1)",
            "((rank + 1) % world, (rank + 1) % world + 1)",
            "_starts",
        ),
        Bug(
            "epoch of the first sample for all",
            "numpy",
            "epochs, places = sample // count",
            "epochs, places = sample * 0 + position // count",
            "_starts",
        ),
        Bug(
            "a window more than fits",
            "numpy",
            "windows(length, context, stride)",
            "windows(length + stride, context, stride)",
            "_starts",
        ),
        Bug(
            "each block starts anew",
            "torch",
            "torch.arange(block * _BLOCK, min((block + 1) * _BLOCK, count))",
            "torch.arange(min(_BLOCK, count - block * _BLOCK))",
            "_order",
        ),
        Bug("tokens kept in 8 bits", "torch", ".astype(np.int64)", ".astype(np.uint8).astype(np.int64)", "_gather"),
        Bug(
            "sequences of neighbours",
            "torch",
            "torch.cat(order) * stride",
            "(torch.cat(order)[:1] + torch.arange(len(torch.cat(order)))) % count * stride",
            "_starts",
        ),
        Bug("streams of the weights", "torch", "STREAM_ORDER + epoch", "(1 << 32) + epoch", "_order"),
    ),
)


# -- packed_batch -------------------------------------------------------------------------------------------------


def draw_packed(source):
    context, rows = source.size(17), source.choice(1, 2, source.integer(3, 30))
    length = rows * context + 1 + source.choice(0, source.integer(0, context))
    empty = source.integer(0, 7) == 0
    length = source.integer(0, context) if empty else length
    arrays, static = corpus(source, length)
    longest = source.choice(1, 2, context, 3 * context)
    ends = np.cumsum(source.rng.integers(1, longest + 1, size=length + 1))
    borders = np.array([0, *ends[ends < length], length], np.int64)
    batch_size, position = source.integer(1, 9), source.choice(0, source.integer(0, 5 * rows))
    source.event("too short", empty)
    source.event("documents of one token", longest == 1 and length > 1)
    source.event("a document longer than a row", not empty and np.diff(borders).max() > context)
    inside = set(borders[1:-1].tolist())
    source.event("a border between rows", any(row * context in inside for row in range(1, rows)))
    static |= {"borders": mapped(borders) if source.integer(0, 1) else borders, "position": position}
    static |= {"batch_size": batch_size, "context": context, **share(source, batch_size)}
    return source.case(arrays, seed=source.integer(0, 2**64 - 1), **static)


PACKED_BATCH = Component(
    name="packed_batch",
    numpy=numpy_batches.packed_batch,
    torch=torch_batches.packed_batch,
    weight=2,
    draw=draw_packed,
    call=or_refusal,
    exact=True,
    dtypes=("float64",),
    events=(
        *("uint8", "uint16", "int32", "tensor", "array", "memory map", "too short", "several processes"),
        *("documents of one token", "a document longer than a row", "a border between rows"),
    ),
    compiles=False,
    bugs=(
        Bug(
            "labels cross borders",
            "numpy",
            "np.where(document[:, 1:] == document[:, :-1], chosen[:, 1:], IGNORED)",
            "chosen[:, 1:]",
        ),
        Bug(
            "first token of a document left out instead",
            "numpy",
            "np.where(document[:, 1:] == document[:, :-1]",
            "np.where(np.pad(document[:, 1:] == document[:, :-1], ((0, 0), (1, 0)))[:, :-1]",
        ),
        Bug("borders one late", "numpy", 'side="right"', 'side="left"'),
        Bug("documents numbered through the corpus", "numpy", "document[:, :-1] - document[:, :1]", "document[:, :-1]"),
        Bug("rows overlap", "numpy", "context, seed, context, rank", "context, seed, 1, rank"),
        Bug("another mark than cross_entropy's", "torch", "IGNORED", "-1"),
        Bug(
            "documents of the targets",
            "torch",
            "documents[:, :-1] - documents[:, :1]",
            "documents[:, 1:] - documents[:, :1]",
        ),
        Bug("whole batch everywhere", "torch", "context, rank, world", "context, 0, 1"),
    ),
)


# -- evaluation_windows -------------------------------------------------------------------------------------------


def draw_evaluation(source):
    context, batch_size = source.size(17), source.integer(1, 6)
    batches = batch_size * source.integer(0, 3) + source.choice(0, 1, 1, source.integer(0, 5))
    whole = context * batches
    length = source.choice(source.integer(0, 2), whole + 1, whole + 1, whole, whole + 2, source.integer(2, 300))
    limit = source.choice(None, None, 0, 1, context, length, *(source.integer(1, max(1, length)) for _ in range(4)))
    targets = length - 1 if limit is None else min(limit, length - 1)
    arrays, static = corpus(source, length)
    source.event("nothing to predict", targets < 1)
    source.event("limit 0", limit == 0 and length > 1)
    source.event("limit inside", limit is not None and 0 < limit < length - 1)
    source.event("exactly filled", targets > 0 and targets % context == 0)
    source.event("one window too many for the batch", targets // context > 1 and targets // context % batch_size == 1)
    source.event("rest only", 0 < targets < context)
    return source.case(arrays, context=context, batch_size=batch_size, limit=limit, **static)


EVALUATION_WINDOWS = Component(
    name="evaluation_windows",
    numpy=numpy_batches.evaluation_windows,
    torch=torch_batches.evaluation_windows,
    draw=draw_evaluation,
    call=or_refusal,
    exact=True,
    dtypes=("float64",),
    events=(
        *("uint8", "uint16", "int32", "tensor", "array", "memory map", "nothing to predict", "limit 0", "limit inside"),
        *("exactly filled", "one window too many for the batch", "rest only"),
    ),
    compiles=False,
    bugs=(
        Bug("limit ignored", "numpy", "min(limit, len(tokens) - 1)", "len(tokens) - 1"),
        Bug("limit counts the first token", "numpy", "min(limit, len(tokens) - 1)", "min(limit - 1, len(tokens) - 1)"),
        Bug("rest left out", "numpy", "if targets % context:", "if targets < context:"),
        Bug("rest ends early", "numpy", "whole * context : targets + 1", "whole * context : targets"),
        Bug(
            "windows as long as the corpus allows",
            "numpy",
            "* context\n",
            "* (context + 1) % (targets - context + 1)\n",
        ),
        Bug(
            "targets not shifted",
            "numpy",
            "yield chosen[:, :-1], chosen[:, 1:]",
            "yield chosen[:, :-1], chosen[:, :-1]",
        ),
        Bug("last batch of one left out", "torch", "range(0, full, batch_size)", "range(0, full - 1, batch_size)"),
        Bug(
            "rest taken from the end",
            "torch",
            "torch.tensor([full * context])",
            "torch.tensor([len(tokens) - 1 - rest])",
        ),
        Bug(
            "rest as a full window",
            "torch",
            "torch.tensor([full * context]), rest",
            "torch.tensor([max(0, total - context)]), min(context, total)",
        ),
    ),
)

COMPONENTS = (WINDOWS, BATCH, PACKED_BATCH, EVALUATION_WINDOWS)
