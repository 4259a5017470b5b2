"""Declaration of embedding."""

import math
from dataclasses import replace

import numpy as np

import numpy_ref.model.embedding as numpy_embedding
import torch_impl.model.embedding as torch_embedding
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    vocabulary, width = source.size(40, least=2), source.size()
    crowded = source.flag()  # one token many times: 16-bit sums stop growing at 256 addends
    shape = (600,) if crowded else (*source.leading(), source.size())
    tokens = source.tokens(shape, 2 if crowded else vocabulary)
    source.event("600 tokens", crowded)
    source.event("scaled", scaled := source.flag())
    arrays = {
        "tokens": tokens.astype(source.choice(np.int64, np.int32, np.uint8)),
        "weight": source.array("weight", (vocabulary, 3 if crowded else width)),
    }
    case = source.case(arrays, scale=math.sqrt(width) + 0.5 if scaled else 1.0)
    # Each number added to a huge one rounds it: sqrt(n) roundings, where the budget of a sum knows one.
    often = np.bincount(tokens.reshape(-1)).max() > 32
    return replace(case, cotangent="one") if often and case.cotangent == "heavy" else case


def shape(batch, length, vocabulary, width):
    def build(rng):
        arrays = {
            "tokens": rng.integers(0, vocabulary, (batch, length)),
            "weight": rng.standard_normal((vocabulary, width)),
        }
        return Case(arrays, {"scale": math.sqrt(width)})

    return build


EMBEDDING = Component(
    name="embedding",
    numpy=numpy_embedding.embedding,
    torch=torch_embedding.embedding,
    draw=draw,
    differentiable=("weight",),
    inside="float32",
    events=("repeated token", "last token", "600 tokens", "scaled", "strided"),
    shapes={
        "small": shape(2, 7, 11, 16),
        "showcase": shape(32, 128, 256, 128),
        "wide": shape(32, 256, 256, 384),
    },
    flops=lambda case: case.arrays["tokens"].size * case.arrays["weight"].shape[1],
    bytes=lambda case, size: case.arrays["tokens"].size * (8 + 2 * size * case.arrays["weight"].shape[1]),
    bugs=(
        Bug(
            "a repeated token keeps one gradient",
            "numpy",
            "np.add.at(dweight, tokens.reshape(-1), dy.reshape(-1, weight.shape[1]))",
            "dweight[tokens.reshape(-1)] = dy.reshape(-1, weight.shape[1])",
        ),
        Bug("scale forgotten in the gradient", "numpy", "return dweight * scale", "return dweight"),
        Bug("scale forgotten forward", "numpy", "return weight[tokens] * scale", "return weight[tokens] * 1.0"),
        Bug("ids off by one", "numpy", "weight[tokens]", "weight[tokens - 1]"),
        Bug("scaled twice", "torch", "rows = rows * scale", "rows = rows * scale * scale"),
        Bug(
            "padding token 0 gets no gradient",
            "torch",
            "F.embedding(tokens.long(), ",
            "F.embedding(tokens.long(), padding_idx=0, weight=",
        ),
        Bug(
            "gradients summed in 16 bits",
            "torch",
            "weight.float() if weight.itemsize == 2 and weight.requires_grad else weight",
            "weight",
            dtype="bfloat16",
        ),
    ),
)

COMPONENTS = (EMBEDDING,)
