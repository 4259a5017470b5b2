"""Declarations of gelu, gelu_tanh, relu, silu, the gated units, softcap, and of the choice by name."""

import numpy as np

import numpy_ref.model.activations as numpy_activations
import torch_impl.model.activations as torch_activations
from numpy_ref.config import ACTIVATIONS, GATED
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


# F.silu's slope in float32 is s (1 + x (1 - s)) with 1 - s computed by subtraction, which cancels where s is near 1.
SILU_SLOPE = (
    Allowance(
        "dx",
        "PyTorch's kernel computes 1 - sigmoid(x) by subtraction, which cancels for large x",
        lambda a, dy: 2 * np.abs(dy) * (1 + np.minimum(np.abs(a["x"]), 1e4)),
        DTYPES,
        "float32",
    ),
)
SILU = declare(
    "silu",
    (
        Bug("sigmoid alone", "numpy", "return x * s, vjp", "return s, vjp"),
        Bug("slope without the second term", "numpy", "dy * s * (1.0 + x * rest)", "dy * s"),
        Bug("slope of the sigmoid", "numpy", "dy * s * (1.0 + x * rest)", "dy * s * rest"),
        Bug("exp overflows on the left", "numpy", "np.where(positive, -x, x)", "np.where(positive, -x, x) * 0.5"),
        Bug("GELU", "torch", "F.silu(x)", "F.gelu(x)"),
        Bug("hard swish", "torch", "F.silu(x)", "F.hardswish(x)"),
    ),
    SILU_SLOPE,
)


def draw_halves(source):
    x = source.array("x", (*source.leading(), 2 * source.size(33)))
    source.event("width 1", x.shape[-1] == 2)
    return source.case({"x": x})


def gated(name, slope, bugs):
    """A gated unit: one half's tail errors are multiplied by the other half."""

    def terms(arguments, dy):
        a, b = np.split(np.abs(arguments["x"]), 2, axis=-1)
        da = 2 * np.abs(dy) * b * slope(np.minimum(a, 1e4))
        return np.concatenate((da, 2 * np.abs(dy) * a), axis=-1)

    def value(arguments, dy):
        a, b = np.split(np.abs(arguments["x"]), 2, axis=-1)
        return 2 * a * b

    why = TAIL if name == "geglu" else SILU_SLOPE[0].why
    return Component(
        name=name,
        numpy=getattr(numpy_activations, name),
        torch=getattr(torch_activations, name),
        draw=draw_halves,
        differentiable=("x",),
        allowances=(
            Allowance("dx", why, terms, DTYPES, "float32"),
            *((Allowance("value", why, value, DTYPES, "float32"),) if name == "geglu" else ()),
        ),
        events=("width 1", "strided", "expanded", "offset"),
        shapes={"small": shape(3, 34), "showcase": shape(32, 128, 768), "wide": shape(32, 256, 2048)},
        flops=lambda case: 6 * case.arrays["x"].size,
        bytes=lambda case, size: 1.5 * size * case.arrays["x"].size,
        bugs=bugs,
    )


SWIGLU = gated(
    "swiglu",
    lambda x: 1 + x,
    (
        Bug("halves swapped", "numpy", "a, b = np.split(x, 2, axis=-1)", "b, a = np.split(x, 2, axis=-1)", "_gated"),
        Bug("neighbours for halves", "numpy", "np.split(x, 2, axis=-1)", "(x[..., 0::2], x[..., 1::2])", "_gated"),
        Bug("gradients of the halves swapped", "numpy", "(gate_vjp(dy * b), dy * gate)", "(dy * gate, gate_vjp(dy * b))", "_gated"),
        Bug("gradient of the gate without the other half", "numpy", "gate_vjp(dy * b)", "gate_vjp(dy)", "_gated"),
        Bug("GELU", "torch", "F.silu(a) * b", "F.gelu(a) * b"),
        Bug("no gate", "torch", "F.silu(a) * b", "F.silu(a) + 0 * b"),
        Bug("sigmoid gate", "torch", "F.silu(a) * b", "a.sigmoid() * b"),
    ),
)
GEGLU = gated(
    "geglu",
    lambda x: 1 + x,
    (
        Bug("SiLU", "numpy", "_gated(gelu, x)", "_gated(silu, x)"),
        Bug("tanh form", "numpy", "_gated(gelu, x)", "_gated(gelu_tanh, x)"),
        Bug("halves swapped", "torch", "a, b = x.chunk(2, -1)", "b, a = x.chunk(2, -1)"),
        Bug("no gate", "torch", "gelu(a) * b", "gelu(a) + 0 * b"),
    ),
)


def draw_softcap(source):
    x = source.array("x", (*source.leading(), source.size(65)))
    cap = source.choice(1.0, 30.0, 0.5)
    source.event("saturated", bool((np.abs(x) > 10 * cap).any()))
    return source.case({"x": x}, cap=cap)


SOFTCAP = Component(
    name="softcap",
    numpy=numpy_activations.softcap,
    torch=torch_activations.softcap,
    draw=draw_softcap,
    differentiable=("x",),
    elementwise=True,
    # The slope 1 - tanh^2 by subtraction; and tanh itself is rounded before it is squared.
    cancellation=lambda arguments, dy, unit: {"dx": 4 * np.abs(dy)},
    events=("saturated", "strided", "zero"),
    shapes={"small": lambda rng: Case({"x": rng.standard_normal((3, 33))}, {"cap": 2.0})},
    bugs=(
        Bug("not scaled back", "numpy", "return cap * bent, vjp", "return bent, vjp"),
        Bug("not scaled down", "numpy", "np.tanh(x / cap)", "np.tanh(x)"),
        Bug("no slope", "numpy", "return dy * 4.0 * e / ((1.0 + e) * (1.0 + e))", "return dy * 1.0"),
        Bug("slope counted by the cap", "numpy", "return dy * 4.0", "return cap * dy * 4.0"),
        Bug("cut, not bent", "torch", "cap * torch.tanh(x / cap)", "x.clamp(-cap, cap)"),
        Bug("cap of one", "torch", "cap * torch.tanh(x / cap)", "torch.tanh(x)"),
    ),
)


def draw_named(source):
    name = source.choice(*ACTIVATIONS)
    case = draw_halves(source) if name in GATED else draw(source)
    return Case(case.arrays, {"name": name}, case.events | {name}, case.layouts, case.seed, case.cotangent)


ACTIVATION = Component(
    name="activation",
    numpy=numpy_activations.activation,
    torch=torch_activations.activation,
    draw=draw_named,
    differentiable=("x",),
    events=ACTIVATIONS,
    kernels=(GELU, GELU_TANH, SILU),
    weight=2,
    bugs=(
        Bug("exact for tanh", "numpy", '"gelu_tanh": gelu_tanh', '"gelu_tanh": gelu'),
        Bug("relu for gelu", "numpy", '"gelu": gelu,', '"gelu": relu,'),
        Bug("gelu for relu", "torch", '"relu": relu', '"relu": gelu'),
        Bug("tanh for exact", "torch", '"gelu": gelu,', '"gelu": gelu_tanh,'),
        Bug("one gated unit for the other", "torch", '"swiglu": swiglu', '"swiglu": geglu'),
    ),
)

COMPONENTS = (GELU, GELU_TANH, RELU, SILU, SWIGLU, GEGLU, SOFTCAP, ACTIVATION)
