"""Declarations of dropout, dropout_mask, and dropout_masks of the whole model."""

import numpy as np

import numpy_ref.model.dropout as numpy_dropout
import numpy_ref.model.transformer as numpy_transformer
import torch_impl.model.dropout as torch_dropout
import torch_impl.model.transformer as torch_transformer
from numpy_ref.config import ModelConfig
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    shape = (*source.leading(), source.size())
    rate = source.choice(0.0, 0.1, 0.5, 0.9)
    kind = source.choice("random", "random", "all", "nothing", "no mask")
    keep = {"random": source.rng.random(shape) >= rate, "all": np.ones(shape, bool), "nothing": np.zeros(shape, bool)}.get(kind)
    source.event(kind)
    source.event("rate 0", rate == 0 and keep is not None)
    return source.case({"x": source.array("x", shape), "keep": keep}, rate=rate)


DROPOUT = Component(
    name="dropout",
    numpy=numpy_dropout.dropout,
    torch=torch_dropout.dropout,
    draw=draw,
    differentiable=("x",),
    elementwise=True,
    events=("random", "all", "nothing", "no mask", "rate 0", "strided"),
    shapes={
        "small": lambda rng: Case({"x": rng.standard_normal((3, 33)), "keep": rng.random((3, 33)) < 0.9}, {"rate": 0.1}),
        "showcase": lambda rng: Case(
            {"x": rng.standard_normal((32, 128, 128)), "keep": rng.random((32, 128, 128)) < 0.9}, {"rate": 0.1}
        ),
    },
    flops=lambda case: 2 * case.arrays["x"].size,
    bytes=lambda case, size: (2 * size + 1) * case.arrays["x"].size,
    bugs=(
        Bug("not scaled up", "numpy", "value * keep / (1.0 - rate)", "value * keep * 1.0"),
        Bug("scaled down", "numpy", "value * keep / (1.0 - rate)", "value * keep * (1.0 - rate)"),
        Bug("mask inverted", "numpy", "value * keep", "value * ~keep"),
        Bug("gradient not masked", "numpy", "return apply(x), apply", "return apply(x), lambda dy: dy / (1.0 - rate)"),
        Bug("gradient not scaled", "numpy", "return apply(x), apply", "return apply(x), lambda dy: dy * (1 if keep is None else keep)"),
        Bug("divided by the rate", "torch", "(1 - rate)", "max(rate, 0.05)"),
        Bug("a mask of its own", "torch", "x * keep", "x * keep.roll(1, -1)"),
    ),
)


def draw_mask(source):
    shape = tuple(source.size(20) for _ in range(source.integer(1, 3)))
    source.event("odd size", int(np.prod(shape)) % 2 == 1)
    large = source.flag()
    source.event("64-bit seed", large)
    static = {"seed": source.integer(0, 2**63) if large else source.integer(0, 9), "stream": source.integer(0, 2**40)}
    return source.case({}, shape=shape, rate=source.choice(0.0, 0.1, 0.5, 0.99), **static)


DROPOUT_MASK = Component(
    name="dropout_mask",
    numpy=numpy_dropout.dropout_mask,
    torch=torch_dropout.dropout_mask,
    draw=draw_mask,
    exact=True,
    dtypes=("float64",),
    events=("odd size", "64-bit seed"),
    compiles=False,
    shapes={
        "showcase": lambda rng: Case({}, {"seed": 1, "stream": 3, "shape": (32, 128, 128), "rate": 0.1}),
    },
    flops=lambda case: 0,
    bytes=lambda case, size: int(np.prod(case.static["shape"])),
    bugs=(
        Bug("drops what it should keep", "numpy", ">= rate", "< rate"),
        Bug("keeps with probability rate", "numpy", ">= rate", ">= 1 - rate"),
        Bug("stream ignored", "numpy", "uniform(seed, stream, shape)", "uniform(seed, 0, shape)"),
        Bug("seed ignored", "torch", "uniform(seed, stream, shape", "uniform(0, stream, shape"),
        Bug("streams of neighbours overlap", "torch", "uniform(seed, stream, shape,", "uniform(seed, stream >> 1, shape,"),
    ),
)

def draw_masks(source):
    rate = source.choice(0.0, 0.1, 0.5, 0.9)
    config = ModelConfig(
        layers=source.integer(1, 4), width=2 * source.size(9), heads=1, norm_position="pre", dropout=rate
    )
    step = source.choice(0, source.integer(1, 20), source.integer(2**20, 2**28))
    source.event("no dropout", rate == 0)
    source.event("several layers", config.layers > 1)
    source.event("first step", step == 0)
    source.event("late step", step >= 2**20)
    static = {"batch": source.size(4), "length": source.size(11), "seed": source.integer(0, 2**64 - 1), "step": step}
    return source.case({}, config=config, **static)


DROPOUT_MASKS = Component(
    name="dropout_masks",
    numpy=numpy_transformer.dropout_masks,
    torch=torch_transformer.dropout_masks,
    draw=draw_masks,
    exact=True,
    dtypes=("float64",),
    events=("no dropout", "several layers", "first step", "late step"),
    compiles=False,
    bugs=(
        Bug("one mask for both branches", "numpy", "keep(2 + 2 * layer)", "keep(1 + 2 * layer)"),
        Bug("the same masks in every layer", "numpy", "1 + 2 * layer", "1 + 0 * layer"),
        Bug("step ignored", "numpy", "STREAM_DROPOUT + step * (2 * config.layers + 1)", "STREAM_DROPOUT"),
        Bug("steps overlap", "numpy", "(2 * config.layers + 1)", "(2 * config.layers)"),
        Bug("masks without dropout", "numpy", "if config.dropout == 0:", "if config.dropout < 0:"),
        Bug("the batch and the length swapped", "torch", "(batch, length, config.width)", "(length, batch, config.width)"),
        Bug("branches swapped", "torch", "zip(masks[1::2], masks[2::2])", "zip(masks[2::2], masks[1::2])"),
        Bug("embedding drops like the first branch", "torch", '"embedding": masks[0]', '"embedding": masks[1]'),
        Bug("seed ignored", "torch", "dropout_mask(seed, ", "dropout_mask(0, "),
    ),
)

COMPONENTS = (DROPOUT, DROPOUT_MASK, DROPOUT_MASKS)
