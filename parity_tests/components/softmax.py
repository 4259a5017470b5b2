"""Declarations of softmax and log_softmax."""

import numpy as np

import numpy_ref.model.softmax as numpy_softmax
import torch_impl.model.softmax as torch_softmax
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MAGNITUDES


def draw(source):
    lead, width = source.leading(), source.size(65)
    x = source.array("x", (*lead, width), (*MAGNITUDES, "huge", "above exp"))
    hidden = source.choice("nothing", "nothing", "some", "a row")
    if hidden == "some":
        x = np.where(source.rng.random(x.shape) < 0.3, -np.inf, x)
    if hidden == "a row":
        x = x.copy()
        x.reshape(-1, width)[source.rng.integers(x.size // width)] = -np.inf
    if hidden != "nothing":
        source.layouts["x"] = "transposed"
    source.event(f"{hidden} hidden")
    source.event("one entry", width == 1)
    return source.case({"x": x})


def shape(*size):
    return lambda rng: Case({"x": rng.standard_normal(size)})


def declare(name, bugs):
    return Component(
        name=name,
        numpy=getattr(numpy_softmax, name),
        torch=getattr(torch_softmax, name),
        draw=draw,
        differentiable=("x",),
        events=("some hidden", "a row hidden", "one entry", "above exp", "huge", "ties", "strided", "expanded"),
        shapes={"small": shape(3, 33), "showcase": shape(32, 8, 128, 128), "wide": shape(32, 6, 256, 256)},
        flops=lambda case: 5 * case.arrays["x"].size,
        bytes=lambda case, size: 2 * size * case.arrays["x"].size,
        bugs=bugs,
    )


NO_PEAK = Bug("maximum not subtracted", "numpy", "y = x - _peak(x)", "y = x.copy()", function="_exponentials")
SOFTMAX = declare(
    "softmax",
    (
        NO_PEAK,
        Bug(
            "wrong axis",
            "numpy",
            "np.sum(y, axis=-1, keepdims=True)",
            "np.sum(y, axis=0, keepdims=True)",
            function="_exponentials",
        ),
        Bug(
            "delta dropped in the gradient",
            "numpy",
            "dx = dy - np.sum(dy * y, axis=-1, keepdims=True)",
            "dx = dy.copy()",
        ),
        Bug("mean for sum in the gradient", "numpy", "dy - np.sum(dy * y,", "dy - np.mean(dy * y,"),
        Bug("delta without the weights", "numpy", "np.sum(dy * y,", "np.sum(dy,"),
        Bug("hidden row is 0/0", "numpy", "y /= np.where(total.real == 0, 1.0, total)", "y /= total"),
        Bug(
            "hidden row is uniform",
            "torch",
            ".masked_fill(empty, 0), -1).masked_fill(empty, 0)",
            ".masked_fill(empty, 0), -1)",
        ),
        Bug("hidden row is NaN", "torch", "x.masked_fill(empty, 0), -1)", "x, -1)"),
        Bug("first axis", "torch", "empty, 0), -1)", "empty, 0), 0)"),
    ),
)
LOG_SOFTMAX = declare(
    "log_softmax",
    (
        NO_PEAK,
        Bug(
            "log of the rounded softmax",
            "numpy",
            "y = x - _peak(x) - np.log(total)",
            "y = np.log(exponentials / total)",
        ),
        Bug("log2", "numpy", "np.log(total)", "np.log2(total)"),
        Bug(
            "gradient of the softmax",
            "numpy",
            "dx = dy - exponentials / total * np.sum(dy, axis=-1, keepdims=True)",
            "dx = exponentials / total * (dy - np.sum(dy, axis=-1, keepdims=True))",
        ),
        Bug("hidden row has a gradient", "numpy", "dx *= visible", "pass"),
        Bug("hidden row is -log n", "torch", ', -float("inf"))', ", 0.0)"),
        Bug("probabilities", "torch", "F.log_softmax(", "F.softmax("),
    ),
)

COMPONENTS = (SOFTMAX, LOG_SOFTMAX)
