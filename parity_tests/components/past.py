"""Declarations of context vectors: mean of and attention over the past."""

import numpy_ref.context.past as numpy_past
import torch_impl.context.past as torch_past
from parity_tests.components.block import random_parameters
from parity_tests.harness.declaration import Bug, Component


def draw_mean(source):
    length, span = source.size(17), source.integer(1, 8)
    source.event("one place", length == 1)
    source.event("out of sight", length > span + 1)
    x = source.array("x", (source.integer(1, 3), length, source.size(9)), ("one", "small", "sixteen", "heavy", "zero"))
    return source.case({"x": x}, span=span)


PAST_MEAN = Component(
    name="past_mean",
    numpy=numpy_past.past_mean,
    torch=torch_past.past_mean,
    draw=draw_mean,
    differentiable=("x",),
    events=("one place", "out of sight", "heavy", "zero"),
    compiles=False,
    bugs=(
        Bug("the place itself", "numpy", "(ago >= 1)", "(ago >= 0)", function="_visible"),
        Bug("the future", "numpy", "(visible @ x)", "(visible.T @ x)"),
        Bug("one too far", "numpy", "(ago <= span)", "(ago <= span + 1)", function="_visible", needs=("out of sight",)),
        Bug("always divided by the span", "numpy", "np.sum(visible, axis=1, keepdims=True), 1)", "0 * np.sum(visible, axis=1, keepdims=True), span)"),
        Bug("backward like forward", "numpy", "visible.T @ (dy / number)", "visible @ (dy / number)"),
        Bug("everything before", "torch", " & (ago <= span)", "", needs=("out of sight",)),
    ),
)  # fmt: skip


def past_parameters(source, width, heads, span):
    shapes = {"query.weight": (width, width), "key_value.weight": (2 * width, width), "output.weight": (width, width)}
    return random_parameters(source.rng, shapes | {"distance.weight": (heads, span)})


def draw_attention(source):
    width, heads = source.choice((4, 1), (6, 2), (8, 4))
    length, span = source.size(13), source.integer(1, 6)
    source.event("one place", length == 1)
    source.event("out of sight", length > span + 1)
    source.event("several heads", heads > 1)
    x = source.array("x", (source.integer(1, 3), length, width), ("one", "small", "sixteen", "ties", "zero"))
    return source.case({"x": x, "params": past_parameters(source, width, heads, span)}, heads=heads)


PAST_ATTENTION = Component(
    name="past_attention",
    numpy=numpy_past.past_attention,
    torch=torch_past.past_attention,
    draw=draw_attention,
    differentiable=("x", "params"),
    events=("one place", "out of sight", "several heads", "zero"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("sees itself", "numpy", "(ago >= 1)", "(ago >= 0)", function="_visible"),
        Bug("distances from 1", "numpy", "place - 1, 0", "place, 0", function="_distance", needs=("out of sight",)),
        Bug("distances without a gradient", "numpy", '"distance.weight": dbias.T', '"distance.weight": 0 * dbias.T', needs=("out of sight",)),
        Bug("one distance keeps the last gradient", "numpy", "np.add.at(dbias, distance[rows, columns], np.sum(dscores, axis=0)[:, rows, columns].T)", "dbias[distance[rows, columns]] = np.sum(dscores, axis=0)[:, rows, columns].T", needs=("out of sight",)),
        Bug("not scaled", "numpy", "1.0 / math.sqrt(query.shape[-1])", "1.0", needs=("out of sight",)),
        Bug("keys without a gradient", "numpy", "[_joined(dkey), _joined(dvalue)]", "[0 * _joined(dkey), _joined(dvalue)]", needs=("out of sight",)),
        Bug("scaled by the width", "torch", "math.sqrt(width // heads)", "math.sqrt(width)", needs=("out of sight", "several heads")),
        Bug("the future", "torch", "(ago < 1)", "(ago == 0)"),
        Bug("no end", "torch", "(ago > bias.shape[1])", "(ago > 99)", needs=("out of sight",)),
    ),
)  # fmt: skip

COMPONENTS = (PAST_MEAN, PAST_ATTENTION)
