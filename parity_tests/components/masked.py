"""Declarations of aggregate, loss_denominator, whiten and explained_variance."""

import numpy as np

import numpy_ref.rl.masked as numpy_masked
import torch_impl.rl.masked as torch_masked
from parity_tests.harness.declaration import Bug, Case, Component

DTYPES = ("float64", "float32")
MASKS = ("all", "completions", "gaps", "one token", "an empty row", "nothing")


def draw_mask(source, rows, length):
    """Which tokens of each row count: completions of their own lengths, several turns, hardly any, none."""
    kind = source.choice(*MASKS)
    mask = np.ones((rows, length), bool)
    if kind in ("completions", "an empty row"):
        start, stop = source.rng.integers(0, length + 1, (2, rows, 1))
        mask = (np.arange(length) >= np.minimum(start, stop)) & (np.arange(length) <= np.maximum(start, stop))
    if kind == "gaps":
        mask = source.rng.random((rows, length)) < 0.6
    if kind == "an empty row":
        mask[source.rng.integers(rows)] = False
    if kind == "one token":
        mask = np.zeros_like(mask)
        mask[source.rng.integers(rows), source.rng.integers(length)] = True
    if kind == "nothing":
        mask = np.zeros_like(mask)
    source.event(f"mask: {kind}")
    return mask


def hidden(source, mask, *arrays):
    """The arrays, in half of the cases with NaN wherever the mask hides them."""
    poison = source.flag()
    source.event("NaN behind the mask", poison and not mask.all())
    return [np.where(mask, array, np.nan) if poison else array for array in arrays]


def sizes(source):
    return source.integer(1, 5), source.size(17)


MASK_EVENTS = (*(f"mask: {kind}" for kind in MASKS), "NaN behind the mask")


def draw_aggregate(source):
    mask = draw_mask(source, *sizes(source))
    x, = hidden(source, mask, source.array("x", mask.shape, ("one", "small", "sixteen", "heavy", "ties")))
    by, denominator = source.choice("token", "sequence", "length"), source.choice(None, None, 7)
    source.event(by)
    source.event("denominator of the whole step", denominator is not None)
    source.layouts["x"] = "transposed"
    return source.case({"x": x, "mask": mask}, by=by, denominator=denominator)


def batch(names, rows=128, length=64, **static):
    """A fixed case: normal numbers under each name, completions of random length."""

    def build(rng):
        arrays = {name: rng.standard_normal((rows, length)) for name in names}
        arrays["mask"] = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
        return Case(arrays, static)

    return build


def shapes(names, **static):
    return {
        "small": batch(names, 3, 5, **static),
        "showcase": batch(names, 256, 32, **static),
        "wide": batch(names, 1024, 256, **static),
    }


def size(case):
    return case.arrays["mask"].size


AGGREGATE = Component(
    name="aggregate",
    numpy=numpy_masked.aggregate,
    torch=torch_masked.aggregate,
    draw=draw_aggregate,
    differentiable=("x",),
    dtypes=DTYPES,
    events=(*MASK_EVENTS, "token", "sequence", "length", "denominator of the whole step"),
    shapes=shapes(("x",)),
    flops=lambda case: 2 * size(case),
    bytes=lambda case, width: (width + 1) * size(case),
    bugs=(
        Bug("mean of means: each part by its own number of tokens", "numpy", "if denominator is None else denominator", "if True else denominator"),
        Bug("multiplied by the mask", "numpy", "np.where(mask, x, 0.0) * share", "x * share"),
        Bug("padding counted", "numpy", "max(1, int(np.sum(mask)))", "mask.size", "loss_denominator"),
        Bug("empty rows counted", "numpy", "max(1, int(np.sum(np.any(mask, axis=-1))))", "len(mask)", "loss_denominator", needs=("mask: an empty row", "sequence")),
        Bug("0/0 where nothing counts", "numpy", "max(1, int(np.sum(mask)))", "int(np.sum(mask))", "loss_denominator", needs=("mask: nothing", "token")),
        Bug("row means over the padding too", "numpy", 'np.sum(mask, axis=-1, keepdims=True)', "mask.shape[-1]"),
        Bug("gradient not divided", "numpy", "share * (dy / divisor)", "share * dy"),
        Bug("tokens for sequences", "torch", 'if by == "sequence":\n        x =', 'if by == "none":\n        x ='),
        Bug("hidden entries count", "torch", "x = torch.where(mask, x, 0)", "pass"),
        Bug("length of the longest row, not of the longest possible", "torch", "len(mask) * (mask.shape[-1] if length is None else length)", "len(mask) * int(mask.sum(-1).amax())", "loss_denominator"),
        Bug("mean over columns", "torch", "x.sum(-1) / mask.sum(-1).clamp(min=1)", "x.sum(0) / mask.sum(0).clamp(min=1)"),
    ),
)


def draw_denominator(source):
    mask = draw_mask(source, *sizes(source))
    by, length = source.choice("token", "sequence", "length"), source.choice(None, 40)
    source.event(by)
    source.event("length given", by == "length" and length is not None)
    return source.case({"mask": mask}, by=by, length=length)


LOSS_DENOMINATOR = Component(
    name="loss_denominator",
    numpy=numpy_masked.loss_denominator,
    torch=torch_masked.loss_denominator,
    compiles=False,
    draw=draw_denominator,
    exact=True,
    dtypes=("float64",),
    call=lambda function, arguments: np.int64(int(function(**arguments))),
    events=("token", "sequence", "length", "length given", "mask: nothing", "mask: an empty row"),
    shapes={"showcase": batch((), 256, 32)},
    bugs=(
        Bug("zero", "numpy", "max(1, int(np.sum(mask)))", "int(np.sum(mask))"),
        Bug("empty rows counted", "numpy", "int(np.sum(np.any(mask, axis=-1)))", "len(mask)"),
        Bug("rows forgotten", "numpy", "len(mask) * (", "("),
        Bug("length ignored", "torch", "mask.shape[-1] if length is None else length", "mask.shape[-1]"),
        Bug("columns for rows", "torch", "mask.any(-1)", "mask.any(0)"),
        Bug("padding counted", "torch", "return mask.sum().clamp(min=1)", "return (mask | True).sum().clamp(min=1)"),
    ),
)


def draw_whiten(source):
    mask = draw_mask(source, *sizes(source))
    x, = hidden(source, mask, source.array("x", mask.shape, ("one", "small", "sixteen", "heavy", "offset", "ties")))
    source.layouts["x"] = "transposed"
    shift = source.flag()
    source.event("mean kept", not shift)
    return source.case({"x": x, "mask": mask}, shift_mean=shift, eps=source.choice(1e-8, 1e-8, 1e-3))


WHITEN = Component(
    name="whiten",
    numpy=numpy_masked.whiten,
    torch=torch_masked.whiten,
    compiles=False,
    draw=draw_whiten,
    dtypes=DTYPES,
    events=(*MASK_EVENTS, "mean kept", "offset"),
    shapes=shapes(("x",)),
    flops=lambda case: 6 * size(case),
    bytes=lambda case, width: (2 * width + 1) * size(case),
    bugs=(
        Bug("shift_mean inverted (torchtune)", "numpy", "centred if shift_mean else x", "x if shift_mean else centred"),
        Bug("biased variance", "numpy", "max(1, count - 1)", "max(1, count)"),
        Bug("masked tokens pull the mean", "numpy", "np.sum(x) / max(1, count)", "np.sum(x) / x.size"),
        Bug("masked tokens add to the variance", "numpy", "np.where(mask, x - mean, 0.0)", "x - mean"),
        Bug("eps outside the root", "numpy", "np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)"),
        Bug("a row at a time", "numpy", "np.sum(x) / max(1, count)", "np.sum(x, axis=-1, keepdims=True) / np.maximum(1, np.sum(mask, axis=-1, keepdims=True))"),
        Bug("NaN from behind the mask", "torch", "x = torch.where(mask, x, 0)", "x = x * mask"),
        Bug("one token is 0/0", "torch", "(count - 1).clamp(min=1) + eps", "(count - 1) + eps"),
        Bug("the masked are -mean (OpenRLHF)", "torch", "centred = torch.where(mask, x - mean, 0)", "centred = x - mean"),
    ),
)


def draw_explained(source):
    mask = draw_mask(source, *sizes(source))
    returns = source.array("returns", mask.shape, ("one", "small", "sixteen", "offset", "ties"))
    if source.integer(0, 3) == 0:
        returns = np.full(mask.shape, source.choice(0.0, 1.0, 0.1))
        source.event("returns all equal")
    values = returns + source.rng.standard_normal(mask.shape) * source.choice(0.1, 1.0, 3.0)
    values, returns = hidden(source, mask, values, returns)
    source.layouts.clear()
    return source.case({"values": values, "returns": returns, "mask": mask})


EXPLAINED_VARIANCE = Component(
    name="explained_variance",
    numpy=numpy_masked.explained_variance,
    torch=torch_masked.explained_variance,
    compiles=False,
    draw=draw_explained,
    dtypes=DTYPES,
    events=("returns all equal", *MASK_EVENTS),
    shapes=shapes(("values", "returns")),
    flops=lambda case: 10 * size(case),
    bytes=lambda case, width: (2 * width + 1) * size(case),
    bugs=(
        Bug("squared error for variance", "numpy", "centred = np.where(mask, x - np.sum(x) / count, 0.0)", "centred = x"),
        Bug("upside down", "numpy", "missed / total", "total / missed"),
        Bug("share that is missed", "numpy", "1.0 - missed / total", "missed / total"),
        Bug("0/0 where all returns are equal", "numpy", "1.0 - missed / total if spread else np.zeros_like(total)", "1.0 - missed / total"),
        Bug("padding counted", "torch", "count = mask.sum().clamp(min=1)", "count = mask.numel()"),
        Bug("variance of the values", "torch", "variance(returns - values)", "variance(values)"),
    ),
)

COMPONENTS = (AGGREGATE, LOSS_DENOMINATOR, WHITEN, EXPLAINED_VARIANCE)
