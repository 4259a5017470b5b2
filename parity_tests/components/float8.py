"""Declaration of float8_linear: value and gradients to the last bit, as sums of 8-bit products are exact in float64."""

import numpy as np
import torch

import numpy_ref.model.float8 as numpy_float8
import torch_impl.model.float8 as torch_float8
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    lead, inputs, outputs = (*source.leading(1), source.integer(1, 5)), source.size(9), source.size(9)
    bias = source.flag()
    x = source.array("x", (*lead, inputs), ("one", "tiny", "sixteen", "ties", "zero", "heavy"))
    weight = source.array("weight", (outputs, inputs), ("one", "small"))
    dy = np.round(source.rng.standard_normal((*lead, outputs)) * 64) / 64  # whose sums are exact, for the bias
    source.event("bias", bias)
    source.event("several rows", int(np.prod(lead)) > 1)
    source.event("unequal scales", bool(np.abs(x).max() > 2 * np.abs(weight).max()))
    values = np.round(source.rng.standard_normal(outputs) * 64) / 64 if bias else None
    return source.case({"x": x, "weight": weight, "bias": values, "dy": dy})


def with_gradients(function, arguments):
    """Rounding has no derivative, so the gradients are results, not something that a complex step could check."""
    arguments = dict(arguments)
    dy = arguments.pop("dy")
    if not torch.is_tensor(dy):
        y, vjp = function(**arguments)
        return _unsigned(y, *vjp(dy))
    arguments = {name: None if value is None else value.detach().requires_grad_() for name, value in arguments.items()}
    y = function(**arguments)
    given = [value for value in arguments.values() if value is not None]
    gradients = torch.autograd.grad(y, given, dy)
    return _unsigned(y.detach(), *gradients, *[None] * (3 - len(given)))


def _unsigned(*arrays):
    """Zeros without a sign: of a sum of one product, libraries disagree on whether 0 is added first."""
    return tuple(None if array is None else array + 0.0 for array in arrays)


def fixed(rng):
    x, weight, dy = (rng.standard_normal(shape) for shape in ((64, 32), (48, 32), (64, 48)))
    return Case({"x": x, "weight": weight, "bias": None, "dy": dy})


FLOAT8_LINEAR = Component(
    name="float8_linear",
    numpy=numpy_float8.float8_linear,
    torch=torch_float8.float8_linear,
    draw=draw,
    call=with_gradients,
    dtypes=("float64",),
    exact=True,
    compiles=False,
    events=("bias", "several rows", "unequal scales", "zero", "tiny", "heavy"),
    shapes={"showcase": fixed},
    flops=lambda case: 2 * case.arrays["x"].size * len(case.arrays["weight"]),
    bytes=lambda case, size: size * (case.arrays["x"].size + case.arrays["weight"].size + case.arrays["dy"].size),
    bugs=(
        Bug("gradient in the forward's format", "numpy", "_quantized(dy, *_BACKWARD)", "_quantized(dy, *_FORWARD)", dtype="float64"),
        Bug("weight's gradient from unrounded x", "numpy", "_product(steps.T, steps_scale, rows, rows_scale, kind)", "dy.T @ x.reshape(-1, x.shape[-1])", dtype="float64"),
        Bug("one scale for each row", "numpy", "np.max(np.abs(x), initial=np.float32(0))", "np.max(np.abs(x[:1]), initial=np.float32(0))", "_quantized", dtype="float64"),
        Bug("scale not taken out", "numpy", "* kind.type(left_scale * right_scale)", "* kind.type(left_scale)", "_product", dtype="float64"),
        Bug("scales exchanged", "numpy", "_product(steps, steps_scale, matrix, matrix_scale, kind)", "_product(steps, steps_scale, matrix, rows_scale, kind)", dtype="float64"),
        Bug("weight not rounded", "torch", "_quantized(weight, _E4M3)", "(weight.float(), torch.ones(()))", "forward", dtype="float64"),
        Bug("gradient in the forward's format, in Torch", "torch", "_quantized(dy, _E5M2)", "_quantized(dy, _E4M3)", "backward", dtype="float64"),
        Bug("not scaled", "torch", "(x * scale).clamp(-largest, largest).to(dtype), scale.reciprocal()", "x.clamp(-largest, largest).to(dtype), torch.ones(())", "_quantized", dtype="float64"),
        Bug("bias lost", "torch", "y if bias is None else y + bias", "y if bias is None else y + 0 * bias", dtype="float64"),
    ),
)

COMPONENTS = (FLOAT8_LINEAR,)
