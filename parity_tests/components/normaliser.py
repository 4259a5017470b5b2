"""Declarations of the robust normaliser: its fit, and both ways through it."""

import numpy_ref.concepts.normaliser as numpy_normaliser
import torch_impl.concepts.normaliser as torch_normaliser
from parity_tests.harness.declaration import Bug, Component


def draw_fit(source):
    rows, width = source.size(33), source.size(9)
    x = source.array("x", (rows, width), ("one", "sixteen", "heavy", "small", "ties", "zero"))
    source.event("one row", rows == 1)
    source.event("between two numbers", (rows - 1) % 4 != 0)
    if source.flag():
        x[:, 0] = x[0, 0]
    source.event("a feature that never changes", rows > 1 and bool((x[:, 0] == x[0, 0]).all()))
    return source.case({"x": x})


FIT = Component(
    name="fit_normaliser",
    numpy=numpy_normaliser.fit_normaliser,
    torch=torch_normaliser.fit_normaliser,
    draw=draw_fit,
    dtypes=("float64", "float32"),
    elementwise=True,
    # Quartiles of large numbers close together: interpolated another way they differ by a rounding of the numbers.
    cancellation=lambda arguments, dy, unit: dict.fromkeys(("value[center]", "value[scale]"), 2 * abs(arguments["x"]).max(0)),
    events=("one row", "between two numbers", "a feature that never changes"),
    compiles=False,
    bugs=(
        Bug("the mean for the median", "numpy", '"center": center', '"center": np.mean(x, axis=0)'),
        Bug("the deviation for the quartiles", "numpy", "NORMAL * (high - low)", "np.sqrt(np.mean((x - np.mean(x, axis=0)) ** 2, axis=0))"),
        Bug("factor forgotten", "numpy", "NORMAL * (high", "(high"),
        Bug("a scale of 0", "numpy", "np.where(least == most, 1.0, NORMAL * (high - low))", "NORMAL * (high - low)"),
        Bug("no interpolation", "numpy", "return below + (place - int(np.floor(place))) * (above - below)", "return below", "_quantile"),
        Bug("quantile among n", "numpy", "q * (len(ordered) - 1)", "min(q * len(ordered), len(ordered) - 1)", "_quantile"),
        Bug("octiles", "torch", "[0.25, 0.5, 0.75]", "[0.125, 0.5, 0.875]"),
        Bug("of all features together", "torch", "dim=0)", "dim=0).mean(1, keepdim=True).expand(3, x.shape[1])"),
    ),
)  # fmt: skip


def draw_through(source):
    width = source.size(17)
    x = source.array("x", (*source.leading(), width), ("one", "small", "sixteen", "heavy"))
    scale = source.rng.uniform(0.2, 3.0, width)
    center = source.rng.standard_normal(width) * source.choice(0.0, 1.0, 5.0)
    source.event("no centre", not center.any())
    return source.case({"x": x, "normaliser": {"center": center, "scale": scale}})


def _declaration(name, bugs):
    return Component(
        name=f"normaliser.{name}",
        numpy=getattr(numpy_normaliser, name),
        torch=getattr(torch_normaliser, name),
        draw=draw_through,
        differentiable=("x",),
        events=("no centre", "heavy"),
        compiles=False,
        bugs=bugs,
    )


NORMALISE = _declaration(
    "normalise",
    (
        Bug("centre after the scale", "numpy", '(x - normaliser["center"]) / normaliser["scale"]', 'x / normaliser["scale"] - normaliser["center"]'),
        Bug("centre forgotten", "numpy", '(x - normaliser["center"])', "x"),
        Bug("gradient not scaled", "numpy", 'dy / normaliser["scale"]', "dy.copy()"),
        Bug("gradient the wrong way", "numpy", 'dy / normaliser["scale"]', 'dy * normaliser["scale"]'),
        Bug("scale the wrong way", "torch", '/ normaliser["scale"]', '* normaliser["scale"]'),
        Bug("scale forgotten", "torch", '/ normaliser["scale"]', '/ 1.0'),
    ),
)  # fmt: skip
DENORMALISE = _declaration(
    "denormalise",
    (
        Bug("centre scaled too", "numpy", 'normaliser["center"] + normaliser["scale"] * x', '(normaliser["center"] + x) * normaliser["scale"]'),
        Bug("centre taken away", "numpy", 'normaliser["center"] +', '-normaliser["center"] +'),
        Bug("gradient not scaled", "numpy", 'dy * normaliser["scale"]', "dy.copy()"),
        Bug("gradient the wrong way", "numpy", 'dy * normaliser["scale"]', 'dy / normaliser["scale"]'),
        Bug("scale and centre exchanged", "torch", 'normaliser["center"], normaliser["scale"], x', 'normaliser["scale"], normaliser["center"], x'),
        Bug("scale forgotten", "torch", 'torch.addcmul(normaliser["center"], normaliser["scale"], x)', 'normaliser["center"] + x'),
    ),
)  # fmt: skip

COMPONENTS = (FIT, NORMALISE, DENORMALISE)
