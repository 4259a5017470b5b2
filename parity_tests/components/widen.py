"""Declarations of widen and widen_vocabulary."""

import numpy as np

import numpy_ref.model.widen as numpy_widen
import torch_impl.model.widen as torch_widen
from numpy_ref.rng import STREAM_WIDEN
from parity_tests.components.rng import phase_error, seed_or_stream
from parity_tests.harness.declaration import Bug, Case, Component

CLASSES = ("one", "small", "sixteen", "ties", "constant", "zero", "offset")


def draw(source):
    old, more, width = source.size(33), source.choice(0, 1, 2, 4, 7), source.size(17)
    source.event("wide enough already", more == 0)
    source.event("a single row", old == 1)
    source.event("several new rows", more > 1)
    arrays = {"weight": source.array("weight", (old, width), CLASSES)}
    rows = old + more if more else source.integer(1, old)
    return source.case(arrays, rows=rows, seed=seed_or_stream(source, "seed"), stream=STREAM_WIDEN)


def new_rows(weight, rows, seed, stream):
    """The angles of the draws are rounded once more, and moments by another algorithm: to the size of the weights."""
    more = max(0, rows - len(weight))
    size = np.abs(weight).max(axis=0)
    error = size * (1 + phase_error(seed, stream, (more, weight.shape[1])))
    return np.concatenate((np.zeros(weight.shape), error + np.zeros((more, weight.shape[1]))))


WIDEN = Component(
    name="widen",
    numpy=numpy_widen.widen,
    torch=torch_widen.widen,
    draw=draw,
    inside="float64",
    elementwise=True,
    cancellation=lambda arguments, dy, u: {"value": new_rows(**arguments)},
    events=("wide enough already", "a single row", "several new rows", "constant", "offset", "zero", "64-bit seed"),
    compiles=False,
    shapes={"showcase": lambda rng: Case({"weight": rng.standard_normal((256, 128))}, {"rows": 260, "seed": 0, "stream": STREAM_WIDEN})},
    flops=lambda case: 4 * case.arrays["weight"].size,
    bytes=lambda case, size: 2 * size * case.arrays["weight"].size,
    bugs=(
        Bug("rows of zeros", "numpy", "mean + deviation", "0 * mean + 0 * deviation"),
        Bug("all new tokens alike", "numpy", "(more, weight.shape[1]))", "(1, weight.shape[1])) + np.zeros((more, 1))", needs=("several new rows",)),
        Bug("mean forgotten", "numpy", "new = mean + deviation", "new = deviation"),
        Bug("deviation over n - 1", "numpy", "np.mean((wide - mean) ** 2, axis=0)", "np.sum((wide - mean) ** 2, axis=0) / max(1, len(wide) - 1)"),
        Bug("one deviation for all columns", "numpy", "np.mean((wide - mean) ** 2, axis=0)", "np.mean((wide - mean) ** 2)"),
        Bug("new rows first", "numpy", "np.concatenate((weight, new.astype(weight.dtype)))", "np.concatenate((new.astype(weight.dtype), weight))"),
        Bug("seed ignored", "torch", "normal(seed, ", "normal(0, "),
        Bug("deviation over n - 1 in Torch", "torch", "correction=0", "correction=min(1, len(weight) - 1)"),
        Bug("moments along the rows", "torch", "torch.std_mean(wide, 0,", "torch.std_mean(wide, (0, 1),"),
    ),
)


def draw_model(source):
    old, width = source.size(17), source.size(9)
    arrays = {"params": {"token_embedding.weight": source.array("params", (old, width), CLASSES)}}
    arrays["params"]["blocks.0.attention.output.weight"] = source.weight("params", (width, width))
    tied = source.flag()
    if not tied:
        arrays["params"]["output.weight"] = source.weight("params", (old, width))
    source.event("tied" if tied else "untied")
    return source.case(arrays, vocab_size=old + source.integer(0, 5), seed=source.integer(0, 99))


def model_rows(params, vocab_size, seed):
    streams = {"token_embedding.weight": STREAM_WIDEN, "output.weight": STREAM_WIDEN + 1}
    wide = {f"value[{name}]": new_rows(params[name], vocab_size, seed, s) for name, s in streams.items() if name in params}
    return {f"value[{name}]": np.zeros(value.shape) for name, value in params.items()} | wide


WIDEN_VOCABULARY = Component(
    name="widen_vocabulary",
    numpy=numpy_widen.widen_vocabulary,
    torch=torch_widen.widen_vocabulary,
    draw=draw_model,
    inside="float64",
    elementwise=True,
    cancellation=lambda arguments, dy, u: model_rows(**arguments),
    events=("tied", "untied"),
    compiles=False,
    bugs=(
        Bug("the head keeps its rows", "numpy", '("token_embedding.weight", "output.weight")', '("token_embedding.weight",)'),
        Bug("both from one stream", "numpy", "STREAM_WIDEN + number", "STREAM_WIDEN"),
        Bug("stream of the embedding for the head", "torch", "STREAM_WIDEN + 1", "STREAM_WIDEN"),
        Bug("one row too many", "torch", "widen(param, vocab_size,", "widen(param, vocab_size + 1,"),
    ),
)

COMPONENTS = (WIDEN, WIDEN_VOCABULARY)
