"""Declarations of sinusoidal_positions and learned_positions."""

import math

import numpy as np

import numpy_ref.model.positions as numpy_positions
import torch_impl.model.positions as torch_positions
from parity_tests.harness.declaration import DTYPE, Bug, Case, Component


def draw_sinusoidal(source):
    shape = (*source.leading(1), source.size())
    far = source.flag()
    positions = source.rng.integers(0, 100_000 if far else 300, shape)
    source.event("far position", far)
    width = 2 * source.size(33)
    source.event("width 2", width == 2)
    return source.case({"positions": positions}, width=width, dtype=DTYPE)


def phase_error(arguments, dy, unit):
    """A rounding of the angle shifts the phase by that much; one of the exponent counts ln 10000 times."""
    width = arguments["width"]
    angle = arguments["positions"][..., None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    return {"value": np.repeat(angle, 2, axis=-1) * (1 + math.log(10000))}


SINUSOIDAL = Component(
    name="sinusoidal_positions",
    numpy=numpy_positions.sinusoidal_positions,
    torch=torch_positions.sinusoidal_positions,
    draw=draw_sinusoidal,
    inside="float64",
    cancellation=phase_error,
    elementwise=True,
    events=("far position", "width 2"),
    shapes={
        "small": lambda rng: Case({"positions": np.arange(9)}, {"width": 16, "dtype": DTYPE}),
        "showcase": lambda rng: Case({"positions": np.arange(128)}, {"width": 128, "dtype": DTYPE}),
    },
    flops=lambda case: 3 * case.arrays["positions"].size * case.static["width"],
    bytes=lambda case, size: case.arrays["positions"].size * (8 + size * case.static["width"]),
    bugs=(
        Bug("cosine first", "numpy", "(np.sin(angle), np.cos(angle))", "(np.cos(angle), np.sin(angle))"),
        Bug("halves instead of pairs", "numpy", "axis=-1)", "axis=-2)"),
        Bug("base 1000", "numpy", "10000.0 **", "1000.0 **"),
        Bug("positions from 1", "numpy", "positions[..., None]", "(positions[..., None] + 1)"),
        Bug(
            "exponent per feature, not per pair",
            "numpy",
            "np.arange(0, width, 2) / width",
            "np.arange(0, width // 2) / width",
        ),
        Bug("angles in float32", "torch", "dtype=torch.float64", "dtype=torch.float32"),
        Bug(
            "positions in the model's format",
            "torch",
            ".double()[..., None]",
            ".to(dtype)[..., None]",
            dtype="bfloat16",
        ),
    ),
)


def draw_learned(source):
    context, width = source.size(40, least=2), source.size()
    shape = (*source.leading(1), source.integer(1, context))
    ordered = source.flag()
    positions = np.broadcast_to(np.arange(shape[-1]), shape).copy() if ordered else source.tokens(shape, context)
    source.event("in order", ordered)
    return source.case({"positions": positions, "weight": source.array("weight", (context, width))})


LEARNED = Component(
    name="learned_positions",
    numpy=numpy_positions.learned_positions,
    torch=torch_positions.learned_positions,
    draw=draw_learned,
    differentiable=("weight",),
    inside="float32",
    events=("in order", "repeated token", "last token"),
    shapes={"small": lambda rng: Case({"positions": np.arange(7), "weight": rng.standard_normal((9, 16))})},
    flops=lambda case: 0,
    bytes=lambda case, size: case.arrays["positions"].size * (8 + 2 * size * case.arrays["weight"].shape[1]),
    bugs=(
        Bug("table read backwards", "numpy", "embedding(positions, ", "embedding(weight.shape[0] - 1 - positions, "),
        Bug(
            "counted from the end of the text",
            "numpy",
            "embedding(positions, ",
            "embedding(positions.max() - positions, ",
        ),
        Bug(
            "scaled like the tokens",
            "numpy",
            "embedding(positions, weight)",
            "embedding(positions, weight, weight.shape[1] ** 0.5 + 1)",
        ),
        Bug(
            "positions ignored",
            "torch",
            "embedding(positions, ",
            "embedding(torch.arange(positions.shape[-1]).expand(positions.shape), ",
        ),
        Bug(
            "no gradient",
            "torch",
            "embedding(positions, weight)",
            "embedding(positions, weight.detach()) + 0 * weight.sum()",
        ),
    ),
)

COMPONENTS = (SINUSOIDAL, LEARNED)
