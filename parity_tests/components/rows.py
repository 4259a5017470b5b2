"""Declarations of the rows of a reward model: padded, packed and shuffled."""

import numpy_ref.reward.rows as numpy_rows
import torch_impl.reward.rows as torch_rows
from parity_tests.harness.declaration import Bug, Component


def draw_texts(source):
    lengths = [source.integer(1, 9) for _ in range(source.integer(1, 5))]
    left = source.flag()
    source.event("left", left and len(set(lengths)) > 1)
    source.event("right", not left and len(set(lengths)) > 1)
    source.event("one text", len(lengths) == 1)
    texts = [source.tokens((length,), 5) for length in lengths]
    source.event("real zeros", any((text == 0).any() for text in texts))
    return source.case({"texts": texts}, left=left)


PADDED = Component(
    name="padded",
    numpy=numpy_rows.padded,
    torch=torch_rows.padded,
    draw=draw_texts,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("left", "right", "one text", "real zeros"),
    bugs=(
        Bug("always on the right", "numpy", "if left else 0\n", "if False else 0\n", needs=("left",)),
        Bug("end of the row", "numpy", "if left else lengths - 1", "if True else lengths - 1", needs=("right",)),
        Bug("end behind the text", "numpy", "if left else lengths - 1", "if left else lengths % width"),
        Bug("padding found by its id", "numpy", "np.where(there, 0, -1)", "np.where(tokens > 0, 0, -1)", needs=("real zeros",)),
        Bug("texts are not told from padding", "numpy", "np.where(there, 0, -1)", "np.where(there, 0, 0)"),
        Bug("one column short", "torch", "column >= width - lengths[:, None]", "column > width - lengths[:, None]", needs=("left",)),
        Bug("rows all end alike", "torch", "if left else lengths - 1", "if left else 0 * lengths + width - 1", needs=("right",)),
    ),
)


def draw_packed(source):
    texts = [source.tokens((source.integer(1, 9),), 5) for _ in range(source.integer(1, 7))]
    longest = max(map(len, texts))
    context, features = source.integer(longest, 4 * longest), source.choice(1, 8, 1000)
    found = numpy_rows.packed(texts, context, features)
    source.event("texts share a row", len(found[0]) < len(texts))
    source.event("a row is not full", bool((found[1] < 0).any()))
    source.event("wide rows", found[0].shape[1] > longest)
    return source.case({"texts": texts}, context=context, features=features)


PACKED = Component(
    name="packed",
    numpy=numpy_rows.packed,
    torch=torch_rows.packed,
    draw=draw_packed,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("texts share a row", "a row is not full", "wide rows"),
    bugs=(
        Bug("texts are not told apart", "numpy", "= text, number", "= text, 0", needs=("texts share a row",)),
        Bug("end behind the text", "numpy", "start + lengths - 1", "(start + lengths) % width"),
        Bug("end of the row's first text", "numpy", "start + lengths - 1", "lengths - 1", needs=("texts share a row",)),
        Bug("padding belongs to a text", "numpy", "np.full(tokens.shape, -1)", "np.full(tokens.shape, 0)", needs=("a row is not full",)),
        Bug("always as wide as the context", "numpy", "width = row_width(lengths, context, features)", "width = context"),
        Bug("texts in the order of the rows", "torch", "torch.stack((row, start + lengths - 1), 1)", "torch.stack((row, start + lengths - 1), 1)[torch.argsort(first)]", needs=("texts share a row",)),
        Bug("every text at the start", "torch", "first = row * width + start", "first = row * width", needs=("texts share a row",)),
    ),
)


def draw_order(source):
    size, count = source.choice(1, 2, 7, 16, 100), source.integer(1, 20)
    position = source.choice(0, 1, size - 1, 3 * size, 10**6)
    source.event("several epochs", position % size + count > size)
    source.event("far on", position >= 10**6)
    return source.case({}, position=position, count=count, size=size, seed=source.integer(0, 2**40))


SHUFFLED = Component(
    name="shuffled",
    numpy=numpy_rows.shuffled,
    torch=torch_rows.shuffled,
    draw=draw_order,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("several epochs", "far on"),
    bugs=(
        Bug("every epoch alike", "numpy", "STREAM_ORDER + int(epoch)", "STREAM_ORDER"),
        Bug("in order", "numpy", "permuted(sample[here] % size, size, seed, STREAM_ORDER + int(epoch))", "sample[here] % size"),
        Bug("position forgotten", "numpy", "sample = position + np.arange(count)", "sample = np.arange(count)"),
        Bug("seed ignored", "torch", "size, seed, STREAM", "size, 0, STREAM"),
        Bug("every epoch from its start", "torch", "epoch, first = divmod(position, size)", "epoch, first = position // size, 0"),
    ),
)

COMPONENTS = (PADDED, PACKED, SHUFFLED)
