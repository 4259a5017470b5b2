"""Declaration of multi_head_attention."""

import numpy as np

import numpy_ref.model.attention as numpy_attention
import torch_impl.model.attention as torch_attention
from parity_tests.components.attention import ATTENTION
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MASKS, attention_mask


def parameters(rng, width, biases=True, scale=1.0):
    params = {
        "query_key_value.weight": rng.standard_normal((3 * width, width)) * scale / np.sqrt(width),
        "query_key_value.bias": rng.standard_normal(3 * width) * scale,
        "output.weight": rng.standard_normal((width, width)) / np.sqrt(width),
        "output.bias": rng.standard_normal(width),
    }
    return {name: value for name, value in params.items() if biases or name.endswith("weight")}


def draw(source):
    heads, features = source.integer(1, 4), source.size(9, block=8)
    batch, length, biases = source.integer(1, 3), source.size(17), source.flag()
    kind, causal = source.choice(*MASKS), source.flag()
    mask = attention_mask(source.rng, kind, batch, length, length)
    if mask is not None and source.flag():
        mask = mask & (source.rng.random((1, heads, 1, length)) < 0.8)
        source.event("heads differ")
    for event, happens in {kind: True, "causal": causal, "one head": heads == 1, "no biases": not biases}.items():
        source.event(event, happens)
    width = heads * features
    arrays = {
        "x": source.array("x", (batch, length, width), ("one", "small", "sixteen", "ties", "constant", "zero")),
        "params": parameters(source.rng, width, biases, source.choice(0.3, 1.0)),
        "mask": mask,
    }
    return source.case(arrays, heads=heads, causal=causal)


def shape(batch, length, width, heads):
    def build(rng):
        arrays = {"x": rng.standard_normal((batch, length, width)), "params": parameters(rng, width), "mask": None}
        return Case(arrays, {"heads": heads, "causal": True})

    return build


def flops(case):
    batch, length, width = case.arrays["x"].shape
    return batch * length * width * (8 * width + 4 * length)


SPLIT = """parts = projected.reshape(batch, length, 3, heads, features // (3 * heads))
    return tuple(np.transpose(parts, (2, 0, 3, 1, 4)))"""
HEAD_MAJOR = """parts = projected.reshape(batch, length, heads, 3, features // (3 * heads))
    return tuple(np.transpose(parts, (3, 0, 2, 1, 4)))"""

MULTI_HEAD_ATTENTION = Component(
    name="multi_head_attention",
    numpy=numpy_attention.multi_head_attention,
    torch=torch_attention.multi_head_attention,
    draw=draw,
    differentiable=("x", "params"),
    kernels=(ATTENTION,),
    events=(*(kind for kind in MASKS), "causal", "one head", "no biases", "heads differ", "strided", "zero"),
    weight=2,
    shapes={
        "small": shape(2, 5, 16, 2),
        "showcase": shape(32, 128, 128, 8),
        "wide": shape(32, 256, 384, 6),
    },
    flops=flops,
    bytes=lambda case, size: size * (2 * case.arrays["x"].size + sum(p.size for p in case.arrays["params"].values())),
    bugs=(
        Bug("features dealt out head by head", "numpy", SPLIT, HEAD_MAJOR, "_split"),
        Bug(
            "heads not brought back side by side",
            "numpy",
            "swapped = np.swapaxes(attended, 1, 2)\n    return swapped.reshape(*swapped.shape[:2], -1)",
            "swapped = np.swapaxes(attended, 1, 2)\n    return attended.reshape(*swapped.shape[:2], -1)",
            "_joined",
        ),
        Bug(
            "gradients of query and key swapped",
            "numpy",
            "(dquery, dkey, dvalue)]",
            "(dkey, dquery, dvalue)]",
            "_unsplit",
        ),
        Bug("never causal", "numpy", "key, value, mask, causal)", "key, value, mask, False)"),
        Bug("always causal", "numpy", "key, value, mask, causal)", "key, value, mask, True)"),
        Bug("mask ignored", "numpy", "key, value, mask, causal)", "key, value, None, causal)"),
        Bug(
            "gradient of the output bias halved",
            "numpy",
            "_vjp(dy)\n",
            "_vjp(dy)\n        bias = grads['output.bias']\n"
            "        grads['output.bias'] = None if bias is None else 0.5 * bias\n",
        ),
        Bug(
            "scaled by the whole width",
            "torch",
            "*split.unbind(0), mask, causal)",
            "*split.unbind(0), mask, causal, width**-0.5)",
        ),
        Bug("key and value swapped", "torch", "*split.unbind(0),", "split[0], split[2], split[1],"),
        Bug("heads mixed", "torch", "y.transpose(1, 2).reshape(", "y.reshape("),
        Bug("output bias forgotten", "torch", 'params.get("output.bias")', "None"),
        Bug("projection bias forgotten", "torch", 'params.get("query_key_value.bias")', "None"),
    ),
)

COMPONENTS = (MULTI_HEAD_ATTENTION,)
