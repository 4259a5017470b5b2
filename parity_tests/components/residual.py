"""Declaration of residual."""

import numpy_ref.model.residual as numpy_residual
import torch_impl.model.residual as torch_residual
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    shape = (*source.leading(), source.size())
    arrays = {"x": source.array("x", shape), "branch": source.array("branch", shape)}
    source.event("expanded", "expanded" in source.layouts.values())
    return source.case(arrays)


def shape(*size):
    return lambda rng: Case({"x": rng.standard_normal(size), "branch": rng.standard_normal(size)})


RESIDUAL = Component(
    name="residual",
    numpy=numpy_residual.residual,
    torch=torch_residual.residual,
    draw=draw,
    differentiable=("x", "branch"),
    elementwise=True,
    events=("strided", "expanded", "offset", "zero", "tiny"),
    shapes={"small": shape(3, 33), "showcase": shape(32, 128, 128), "wide": shape(32, 256, 384)},
    flops=lambda case: case.arrays["x"].size,
    bytes=lambda case, size: 3 * size * case.arrays["x"].size,
    bugs=(
        Bug("stream dropped", "numpy", "return x + branch", "return branch.copy()"),
        Bug("difference", "numpy", "return x + branch", "return x - branch"),
        Bug("gradient shared out", "numpy", "dy.copy(), dy.copy()", "0.5 * dy, 0.5 * dy"),
        Bug("no gradient past the branch", "numpy", "dy.copy(), dy.copy()", "0 * dy, dy.copy()"),
        Bug("branch detached", "torch", "x + branch", "x + branch.detach()"),
        Bug("sum in bfloat16", "torch", "x + branch", "(x.bfloat16() + branch.bfloat16()).to(x.dtype)"),
    ),
)

COMPONENTS = (RESIDUAL,)
