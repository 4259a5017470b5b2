"""Declarations of AdaLN-zero: features of the step, modulation, and the gated residual."""

import numpy_ref.concepts.adaln as numpy_adaln
import torch_impl.concepts.adaln as torch_adaln
from parity_tests.harness.declaration import DTYPE, Bug, Component


def draw_features(source):
    times = source.rng.integers(0, source.choice(2, 100, 1000), source.leading())
    width = 2 * source.size(17)
    source.event("one pair", width == 2)
    source.event("step 0", bool((times == 0).any()))
    return source.case({"times": times}, width=width, dtype=DTYPE)


TIME_FEATURES = Component(
    name="time_features",
    numpy=numpy_adaln.time_features,
    torch=torch_adaln.time_features,
    draw=draw_features,
    # Speeds by a power and by an exponential differ in the last place, times the angle.
    cancellation=lambda arguments, dy, unit: {"value": 10.0 * (1 + abs(arguments["times"][..., None]))},
    outputs={"value": None},
    events=("one pair", "step 0"),
    compiles=False,
    bugs=(
        Bug("sines first", "numpy", "[np.cos(angles), np.sin(angles)]", "[np.sin(angles), np.cos(angles)]"),
        Bug("pairs side by side", "numpy", "np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)", "np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(*times.shape, width)"),
        Bug("speeds rise", "numpy", "(-np.arange(width // 2)", "(np.arange(width // 2)"),
        Bug("another period", "numpy", "PERIOD **", "1000.0 **"),
        Bug("speeds by the whole width", "torch", "/ (width // 2)", "/ width"),
        Bug("in turns", "torch", "angles.cos()", "(6.2831853 * angles).cos()"),
    ),
)  # fmt: skip

PLAIN = ("one", "small", "sixteen", "ties", "zero")


def draw_three(*names):
    def draw(source):
        shape = (*source.leading(), source.size(17))
        return source.case({name: source.array(name, shape, PLAIN) for name in names})

    return draw


MODULATE = Component(
    name="modulate",
    numpy=numpy_adaln.modulate,
    torch=torch_adaln.modulate,
    draw=draw_three("x", "shift", "scale"),
    differentiable=("x", "shift", "scale"),
    elementwise=("value",),
    events=("zero", "sixteen", "strided"),
    compiles=False,
    bugs=(
        Bug("no one", "numpy", "(1.0 + scale) * x + shift, vjp", "scale * x + shift, vjp"),
        Bug("shift and scale exchanged", "numpy", "(1.0 + scale) * x + shift, vjp", "(1.0 + shift) * x + scale, vjp"),
        Bug("shifted before scaled", "numpy", "(1.0 + scale) * x + shift, vjp", "(1.0 + scale) * (x + shift), vjp"),
        Bug("gradient of x without the one", "numpy", "dy * (1.0 + scale)", "dy * scale"),
        Bug("gradients of shift and scale exchanged", "numpy", "dy.copy(), dy * x", "dy * x, dy.copy()"),
        Bug("no one in Torch", "torch", "1 + scale", "scale"),
        Bug("shift forgotten", "torch", "torch.addcmul(shift, 1 + scale, x)", "torch.addcmul(0 * shift, 1 + scale, x)"),
    ),
)  # fmt: skip

GATED = Component(
    name="adaln.gated",
    numpy=numpy_adaln.gated,
    torch=torch_adaln.gated,
    draw=draw_three("x", "branch", "gate"),
    differentiable=("x", "branch", "gate"),
    elementwise=("value",),
    events=("zero", "sixteen", "strided"),
    compiles=False,
    bugs=(
        Bug("the stream gated too", "numpy", "x + gate * branch, vjp", "(x + branch) * gate, vjp"),
        Bug("one plus the gate", "numpy", "x + gate * branch, vjp", "x + (1.0 + gate) * branch, vjp"),
        Bug("no residual in the backward", "numpy", "return dy.copy(), dy * gate", "return 0 * dy, dy * gate"),
        Bug("gradients of branch and gate exchanged", "numpy", "dy * gate, dy * branch", "dy * branch, dy * gate"),
        Bug("gate without a gradient", "torch", "gate, branch)", "gate.detach(), branch)"),
        Bug("taken away", "torch", "gate, branch)", "gate, branch, value=-1)"),
    ),
)  # fmt: skip

COMPONENTS = (TIME_FEATURES, MODULATE, GATED)
