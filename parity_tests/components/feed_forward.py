"""Declaration of feed_forward."""

import numpy as np

import numpy_ref.model.feed_forward as numpy_feed_forward
import torch_impl.model.feed_forward as torch_feed_forward
from numpy_ref.config import ACTIVATIONS, GATED
from parity_tests.components.activations import GELU, GELU_TANH, SILU
from parity_tests.harness.declaration import Bug, Case, Component


def parameters(rng, width, hidden, biases=True, scale=1.0, activation="gelu"):
    """Weights that keep the size of their input; every element random."""
    up, rows = ("gate_up", 2 * hidden) if activation in GATED else ("up", hidden)
    params = {
        f"{up}.weight": rng.standard_normal((rows, width)) * scale / np.sqrt(width),
        f"{up}.bias": rng.standard_normal(rows) * scale,
        "down.weight": rng.standard_normal((width, hidden)) * scale / np.sqrt(hidden),
        "down.bias": rng.standard_normal(width) * scale,
    }
    return {name: value for name, value in params.items() if biases or name.endswith("weight")}


def draw(source):
    lead, width, hidden = source.leading(), source.size(33), source.size(65)
    biases, activation = source.flag(), source.choice(*ACTIVATIONS)
    source.event("no biases", not biases)
    source.event(activation)
    arrays = {
        "x": source.array("x", (*lead, width)),
        "params": parameters(source.rng, width, hidden, biases, source.choice(0.1, 1.0, 4.0), activation),
    }
    return source.case(arrays, activation=activation)


def shape(batch, length, width, hidden):
    def build(rng):
        arrays = {"x": rng.standard_normal((batch, length, width)), "params": parameters(rng, width, hidden)}
        return Case(arrays, {"activation": "gelu"})

    return build


FEED_FORWARD = Component(
    name="feed_forward",
    numpy=numpy_feed_forward.feed_forward,
    torch=torch_feed_forward.feed_forward,
    draw=draw,
    differentiable=("x", "params"),
    kernels=(GELU, GELU_TANH, SILU),
    events=("no biases", *ACTIVATIONS, "strided", "heavy"),
    weight=2,
    shapes={
        "small": shape(2, 5, 8, 33),
        "showcase": shape(32, 128, 128, 512),
        "wide": shape(32, 256, 384, 1536),
    },
    flops=lambda case: 4 * case.arrays["x"].size * case.arrays["params"]["up.weight"].shape[0],
    bytes=lambda case, size: size * (2 * case.arrays["x"].size + sum(p.size for p in case.arrays["params"].values())),
    bugs=(
        Bug(
            "activation left out",
            "numpy",
            "bent, activation_vjp = apply_activation(activation, hidden)",
            "bent, activation_vjp = hidden, lambda dy: dy",
        ),
        Bug("activation left out of the backward", "numpy", "dhidden = activation_vjp(dbent)", "dhidden = dbent"),
        Bug(
            "always gelu",
            "numpy",
            "apply_activation(activation, hidden)",
            'apply_activation(activation if activation in GATED else "gelu", hidden)',
        ),
        Bug(
            "activation after the second map",
            "numpy",
            "return y, vjp",
            'return apply_activation("relu", y)[0], vjp',
        ),
        Bug(
            "up and down biases mixed",
            "numpy",
            'grads["down.bias"] = down_vjp(dy)',
            'grads["down.bias"] = down_vjp(0.5 * dy)',
        ),
        Bug("second bias forgotten", "torch", 'params.get("down.bias")', "None"),
        Bug(
            "first bias added after the activation",
            "torch",
            'nonlinearity(activation, linear(x, params[f"{first}.weight"], params.get(f"{first}.bias")))',
            'nonlinearity(activation, linear(x, params[f"{first}.weight"])) + params.get("up.bias", 0)',
        ),
        Bug(
            "always relu",
            "torch",
            "nonlinearity(activation,",
            'nonlinearity(activation if activation in GATED else "relu",',
        ),
        Bug(
            "hidden layer in bfloat16", "torch", "return linear(hidden,", "return linear(hidden.bfloat16().to(x.dtype),"
        ),
    ),
)

COMPONENTS = (FEED_FORWARD,)
