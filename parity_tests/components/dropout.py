"""Declarations of dropout and dropout_mask."""

import numpy as np

import numpy_ref.model.dropout as numpy_dropout
import torch_impl.model.dropout as torch_dropout
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    shape = (*source.leading(), source.size())
    rate = source.choice(0.0, 0.1, 0.5, 0.9)
    kind = source.choice("random", "random", "all", "nothing", "no mask")
    keep = {
        "random": source.rng.random(shape) >= rate,
        "all": np.ones(shape, bool),
        "nothing": np.zeros(shape, bool),
    }.get(kind)
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
        "small": lambda rng: Case(
            {"x": rng.standard_normal((3, 33)), "keep": rng.random((3, 33)) < 0.9}, {"rate": 0.1}
        ),
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
        Bug(
            "gradient not scaled",
            "numpy",
            "return apply(x), apply",
            "return apply(x), lambda dy: dy * (1 if keep is None else keep)",
        ),
        Bug("divided by the rate", "torch", "(1 - rate)", "max(rate, 0.05)"),
        Bug("a mask of its own", "torch", "x * keep", "x * keep.roll(1, -1)"),
    ),
)


def draw_mask(source):
    shape = tuple(source.size(20) for _ in range(source.integer(1, 3)))
    source.event("odd size", int(np.prod(shape)) % 2 == 1)
    large = source.flag()
    source.event("64-bit seed", large)
    offset = source.choice(0, 1, 6, 7)
    source.event("odd offset", offset % 2 == 1)
    static = {"seed": source.integer(0, 2**63) if large else source.integer(0, 9), "stream": source.integer(0, 2**40)}
    return source.case({}, shape=shape, rate=source.choice(0.0, 0.1, 0.5, 0.99), offset=offset, **static)


DROPOUT_MASK = Component(
    name="dropout_mask",
    numpy=numpy_dropout.dropout_mask,
    torch=torch_dropout.dropout_mask,
    draw=draw_mask,
    exact=True,
    dtypes=("float64",),
    events=("odd size", "64-bit seed", "odd offset"),
    compiles=False,
    shapes={
        "showcase": lambda rng: Case({}, {"seed": 1, "stream": 3, "shape": (32, 128, 128), "rate": 0.1}),
    },
    flops=lambda case: 0,
    bytes=lambda case, size: int(np.prod(case.static["shape"])),
    bugs=(
        Bug("drops what it should keep", "numpy", ">= rate", "< rate"),
        Bug("keeps with probability rate", "numpy", ">= rate", ">= 1 - rate"),
        Bug("stream ignored", "numpy", "uniform(seed, stream, shape", "uniform(seed, 0, shape"),
        Bug("every micro-batch drops alike", "numpy", "shape, offset)", "shape)"),
        Bug("offset in blocks of two", "torch", "shape, offset,", "shape, 2 * offset,"),
        Bug("seed ignored", "torch", "uniform(seed, stream, shape", "uniform(0, stream, shape"),
        Bug(
            "streams of neighbours overlap",
            "torch",
            "uniform(seed, stream, shape,",
            "uniform(seed, stream >> 1, shape,",
        ),
    ),
)


COMPONENTS = (DROPOUT, DROPOUT_MASK)
