"""What one measurement of a component computes: the function, its inputs, its arithmetic. The list is in `components`.

Floating-point operations count what the algorithm must do: 2 for each multiply-and-add of a matrix product, 1 for each
other arithmetic operation or elementary function of an element. Causal attention needs only half of its square.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numpy_ref.config import GATED

DTYPE = object()  # among arguments: "the number format of this cell"
FLOATS = ("float32", "bfloat16")
MASTERS = ("float32",)  # optimiser steps and sampling work on float32 weights and logits


@dataclass(frozen=True)
class Case:
    """The function at the path ``where`` of both wings, called with ``arguments(draw)`` by keyword.

    ``differentiable`` names arguments in the order of the vjp; ``flops`` and ``backward`` count forward and backward.
    ``prepare(module, arguments)`` adds what only the wing itself can make (optimiser states). ``slack`` widens the
    parity gate where the mathematics, not the code, amplifies roundings.
    """

    where: str  # "model.norms.layer_norm"
    arguments: Callable
    flops: float
    differentiable: tuple = ()
    backward: float = 0.0
    dtypes: tuple = FLOATS
    prepare: Callable | None = None
    slack: float = 1.0
    gathers: bool = False  # reads only as much of its arguments as it returns

    @property
    def modes(self):
        """What can be timed."""
        return ("forward", "backward", "both") if self.differentiable else ("forward",)


def draw(name):
    """A drawer of reproducible normal arrays: ``draw(shape)``, and its generator as ``draw.rng``.

    Values are rounded to bfloat16: every number format gets exactly the same inputs, and one reference serves all.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(shape, scale=1.0, shift=0.0):
        return to_bfloat16(rng.normal(size=shape) * scale + shift)

    normal.rng = rng
    return normal


def to_bfloat16(x):
    """float64 values rounded to 8 significant bits (to nearest; ties away from zero)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def block_flops(config, batch, length):
    """Forward operations in the matrix products of one block: (attention, its projections, feed-forward).

    Causal attention has T (T + 1) / 2 visible pairs, two products of d features each. Its backward is 2.5 times the
    forward: four products, and the scores once more; the backward of a linear map is twice its forward. Key heads that
    are shared are projected once; a gated network has three matrices.
    """
    rows, d, inner = batch * length, config.width, config.heads * config.head_features
    projected = 2 * inner + 2 * config.key_value_heads * config.head_features
    matrices = 3 if config.activation in GATED else 2
    return 2 * rows * inner * (length + 1), 2 * rows * d * projected, 2 * matrices * rows * d * config.feed_forward


def model_flops(config, batch, length):
    """Operations of the whole model: (forward, backward)."""
    attention, *linear = block_flops(config, batch, length)
    head = 2 * batch * length * config.width * config.vocab_size
    forward = config.layers * (attention + sum(linear)) + head
    return forward, 2 * forward + 0.5 * config.layers * attention


def newton_schulz_flops(rows, columns, steps=5):
    """Operations of orthogonalising one matrix: three products a step, on its short side."""
    short, long = min(rows, columns), max(rows, columns)
    return steps * (4 * short * short * long + 2 * short**3)
