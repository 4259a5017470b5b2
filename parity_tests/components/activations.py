"""Declarations of gelu, gelu_tanh, relu, and of their choice by name."""

import numpy as np

import numpy_ref.model.activations as numpy_activations
import torch_impl.model.activations as torch_activations
from parity_tests.harness.declaration import DTYPES, Allowance, Bug, Case, Component


def draw(source):
    x = source.array("x", (*source.leading(), source.size(65)))
    tail = source.flag()
    if tail:  # where GELU is tiny and its formula cancels
        x = -np.abs(source.rng.uniform(2, 9, x.shape))
        source.layouts["x"] = "contiguous"
    source.event("negative tail", tail)
    source.event("exact zero", bool((x == 0).any()))
    return source.case({"x": x})


def shape(*size):
    return lambda rng: Case({"x": rng.standard_normal(size)})


SHAPES = {"small": shape(3, 33), "showcase": shape(32, 128, 512), "wide": shape(32, 256, 1536)}
EVENTS = ("negative tail", "exact zero", "strided", "expanded", "offset")

# x/2 (1 + erf(x / sqrt 2)) and x/2 (1 + tanh(u)) cancel for x < 0: a rounding of the 1 is an error of u |x| in y and of
# u (1 + |x|) dy in dx, whatever is left of them. The vectorised erf of float32 is Abramowitz and Stegun 7.1.26, right
# to 1.5e-7; the slope of tanh, 1 - tanh^2, cancels too and is multiplied by x u'. No training depends on it, and the
# fused kernels are several times as fast as erfc would be.
TAIL = "PyTorch's kernels compute 1 + erf(...) or 1 + tanh(...), which cancel for negative x"


def tail_allowances(slope):
    """slope: |x| -> size of the terms that cancel in dx."""
    return (
        Allowance("value", TAIL, lambda a, dy: 2 * np.abs(a["x"]), DTYPES, "float32"),
        Allowance(
            "dx", TAIL, lambda a, dy: 2 * np.abs(dy) * slope(np.minimum(np.abs(a["x"]), 40.0)), DTYPES, "float32"
        ),
    )


ERF_TAIL = tail_allowances(lambda x: 1 + x)
TANH_TAIL = tail_allowances(lambda x: 1 + x * (1 + 0.134145 * x * x))


def declare(name, bugs, allowances=()):
    return Component(
        name=name,
        numpy=getattr(numpy_activations, name),
        torch=getattr(torch_activations, name),
        draw=draw,
        differentiable=("x",),
        inside="float32",
        elementwise=True,
        events=EVENTS,
        allowances=allowances,
        shapes=SHAPES,
        flops=lambda case: (1 if name == "relu" else 10) * case.arrays["x"].size,
        bytes=lambda case, size: 2 * size * case.arrays["x"].size,
        bugs=bugs,
    )


GELU = declare(
    "gelu",
    (
        Bug(
            "tail by 1 + erf",
            "numpy",
            "y = np.maximum(x, 0.0) - t * tail",
            "y = (0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))).astype(x.dtype)",
        ),
        Bug("no density in the gradient", "numpy", "slope = gauss * t", "slope = gauss * 0.0"),
        Bug("density without 1 / sqrt(2 pi)", "numpy", "1.0 / math.sqrt(2.0 * math.pi)", "1.0 / math.sqrt(2.0)"),
        Bug("exp(-x^2) for the density", "numpy", "np.exp(-0.5 * t * t)", "np.exp(-t * t)"),
        Bug("tanh form", "torch", "F.gelu(x)", 'F.gelu(x, approximate="tanh")'),
        Bug("x sigmoid(1.702 x)", "torch", "F.gelu(x)", "x * (1.702 * x).sigmoid()"),
        Bug("SiLU", "torch", "F.gelu(x)", "F.silu(x)"),
    ),
    ERF_TAIL,
)
GELU_TANH = declare(
    "gelu_tanh",
    (
        Bug(
            "tail by 1 + tanh",
            "numpy",
            "y = np.maximum(x, 0.0) - t * tail",
            "y = 0.5 * x * (1.0 + np.tanh(root * x * (1.0 + cubic * square)))",
        ),
        Bug("0.044", "numpy", "0.044715", "0.044"),
        Bug("no factor 3 in the slope", "numpy", "3.0 * cubic", "cubic"),
        Bug("sqrt(pi / 2)", "numpy", "math.sqrt(2.0 / math.pi)", "math.sqrt(math.pi / 2.0)"),
        Bug("exact form", "torch", 'F.gelu(x, approximate="tanh")', "F.gelu(x)"),
        Bug(
            "x^2 for x^3",
            "torch",
            'F.gelu(x, approximate="tanh")',
            "0.5 * x * (1 + (0.7978845608 * (x + 0.044715 * x * x)).tanh())",
        ),
    ),
    TANH_TAIL,
)
RELU = declare(
    "relu",
    (
        Bug("slope 1 at 0", "numpy", "x.real > 0", "x.real >= 0"),
        Bug("leaky", "numpy", "np.where(hidden, 0.0, x)", "np.where(hidden, 0.01 * x, x)"),
        Bug("gradient everywhere", "numpy", "np.where(positive, dy, 0.0)", "dy * 1.0"),
        Bug("clamp, whose slope at 0 is 1", "torch", "F.relu(x)", "x.clamp(min=0)"),
        Bug("absolute value", "torch", "F.relu(x)", "x.abs()"),
        Bug("cut at 6", "torch", "F.relu(x)", "F.relu6(x)"),
    ),
)


def draw_named(source):
    case = draw(source)
    name = source.choice("gelu", "gelu_tanh", "relu")
    return Case(case.arrays, {"name": name}, case.events | {name}, case.layouts, case.seed, case.cotangent)


ACTIVATION = Component(
    name="activation",
    numpy=numpy_activations.activation,
    torch=torch_activations.activation,
    draw=draw_named,
    differentiable=("x",),
    inside="float32",
    elementwise=True,
    events=("gelu", "gelu_tanh", "relu"),
    kernels=(GELU, GELU_TANH),
    weight=2,
    bugs=(
        Bug("exact for tanh", "numpy", '"gelu_tanh": gelu_tanh', '"gelu_tanh": gelu'),
        Bug("relu for gelu", "numpy", '"gelu": gelu,', '"gelu": relu,'),
        Bug("gelu for relu", "torch", '"relu": relu', '"relu": gelu'),
        Bug("tanh for exact", "torch", '"gelu": gelu,', '"gelu": gelu_tanh,'),
    ),
)

COMPONENTS = (GELU, GELU_TANH, RELU, ACTIVATION)
