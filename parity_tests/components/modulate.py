"""Declarations of gate and FiLM."""

import numpy_ref.context.modulate as numpy_modulate
import torch_impl.context.modulate as torch_modulate
from parity_tests.components.block import random_parameters
from parity_tests.harness.declaration import Bug, Component

CLASSES = ("one", "small", "sixteen", "heavy", "zero")


def draw(source, shapes_of):
    width, leading = source.size(13), source.leading()
    arrays = {name: source.array(name, (*leading, width), CLASSES) for name in ("x", "context")}
    return source.case(arrays | {"params": random_parameters(source.rng, shapes_of(width))})


def gate_shapes(d):
    return {"gate.weight": (d, 2 * d), "gate.bias": (d,), "change.weight": (d, 2 * d)}


GATED = Component(
    name="gated",
    numpy=numpy_modulate.gated,
    torch=torch_modulate.gated,
    draw=lambda source: draw(source, gate_shapes),
    differentiable=("x", "context", "params"),
    events=("heavy", "zero", "strided"),
    weight=2,
    compiles=False,
    bugs=(
        Bug("context and word exchanged", "numpy", "[x, context]", "[context, x]"),
        Bug("the gate has no gradient", "numpy", "gate_vjp(dy * change * g * (1.0 - g))", "gate_vjp(0 * dy * change)"),
        Bug("sigmoid taken for linear", "numpy", "* g * (1.0 - g)", ""),
        Bug("residual without a gradient", "numpy", "return dy + dboth[..., :width]", "return dboth[..., :width]"),
        Bug("no residual", "numpy", "return x + g * change", "return g * change"),
        Bug("gate of the change alone", "torch", "torch.sigmoid(gate) *", "(1 - torch.sigmoid(gate)) *"),
        Bug("no bias", "torch", ', params["gate.bias"])', ")"),
    ),
)  # fmt: skip

FILM = Component(
    name="film",
    numpy=numpy_modulate.film,
    torch=torch_modulate.film,
    draw=lambda source: draw(source, lambda d: {"scale.weight": (d, d), "shift.weight": (d, d)}),
    differentiable=("x", "context", "params"),
    events=("heavy", "zero", "strided"),
    weight=2,
    compiles=False,
    bugs=(
        Bug("scale from 0", "numpy", "return (1.0 + scale) * x", "return scale * x"),
        Bug("shift forgotten", "numpy", "* x + shift", "* x"),
        Bug("gradient of the context through the shift alone", "numpy", "dcontext + dcontext_shift", "dcontext_shift"),
        Bug("scale's gradient without x", "numpy", "scale_vjp(dy * x)", "scale_vjp(dy)"),
        Bug("matrices exchanged", "torch", 'linear(context, params["shift.weight"]), linear(context, params["scale.weight"])', 'linear(context, params["scale.weight"]), linear(context, params["shift.weight"])'),
    ),
)  # fmt: skip

COMPONENTS = (GATED, FILM)
