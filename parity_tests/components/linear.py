"""Declaration of linear."""

import math

import numpy as np

import numpy_ref.model.linear as numpy_linear
import torch_impl.model.linear as torch_linear
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    lead, inputs, outputs = source.leading(), source.size(65), source.size(33)
    outputs = source.choice(inputs, outputs, outputs)
    bias = source.flag()
    arrays = {
        "x": source.array("x", (*lead, inputs)),
        "weight": source.weight("weight", (outputs, inputs)),
        "bias": source.weight("bias", (outputs,)) if bias else None,
    }
    source.event("no bias", not bias)
    source.event("square", inputs == outputs)
    source.event("one vector", not lead)
    return source.case(arrays)


def shape(batch, length, inputs, outputs):
    def build(rng):
        normal = rng.standard_normal
        arrays = {"x": normal((batch, length, inputs)), "weight": normal((outputs, inputs)), "bias": normal(outputs)}
        return Case(arrays)

    return build


def flops(case):
    return 2 * math.prod(case.arrays["x"].shape) * case.arrays["weight"].shape[0]


def moved(case, size):
    x, weight = case.arrays["x"], case.arrays["weight"]
    return size * (x.size + weight.size + x.size // x.shape[-1] * weight.shape[0])


def bias_first(arguments, dy, unit):
    """For some memory layouts PyTorch adds the products onto the bias, one by one: each sum rounds at the bias' size."""
    bias = arguments["bias"]
    return {} if bias is None else {"value": np.abs(bias) * math.sqrt(arguments["x"].shape[-1])}


LINEAR = Component(
    name="linear",
    numpy=numpy_linear.linear,
    torch=torch_linear.linear,
    draw=draw,
    differentiable=("x", "weight", "bias"),
    cancellation=bias_first,
    events=("no bias", "square", "one vector", "strided", "expanded", "heavy"),
    shapes={
        "small": shape(2, 5, 33, 7),
        "showcase": shape(32, 128, 128, 512),
        "wide": shape(32, 256, 384, 1536),
    },
    flops=flops,
    bytes=moved,
    bugs=(
        Bug(
            "weight transposed where it is square",
            "numpy",
            "rows @ weight.T",
            "rows @ (weight if weight.shape[0] == weight.shape[1] else weight.T)",
        ),
        Bug("dweight transposed", "numpy", "dy_rows.T @ rows", "(rows.T @ dy_rows).reshape(weight.shape)"),
        Bug(
            "dx of the transposed weight",
            "numpy",
            "(dy_rows @ weight)",
            "(dy_rows @ weight.reshape(weight.shape[::-1]).T)",
        ),
        Bug("bias subtracted", "numpy", "y = y + bias", "y = y - bias"),
        Bug("dbias averaged", "numpy", "np.sum(dy_rows, axis=0)", "np.mean(dy_rows, axis=0)"),
        Bug("dbias of the last row alone", "numpy", "np.sum(dy_rows, axis=0)", "dy_rows[-1].copy()"),
        Bug(
            "inner product cut by one",
            "torch",
            "F.linear(x, weight, bias)",
            "F.linear(x, weight, bias) - x[..., -1:] * weight[:, -1]",
        ),
        Bug(
            "weight rounded to bfloat16",
            "torch",
            "F.linear(x, weight, bias)",
            "F.linear(x, weight.bfloat16().to(x.dtype), bias)",
        ),
        Bug("no gradient for the bias", "torch", "F.linear(x, weight, bias)", "F.linear(x, weight, bias if bias is None else bias.detach())"),
    ),
)

COMPONENTS = (LINEAR,)
