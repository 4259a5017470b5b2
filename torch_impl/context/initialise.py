"""First weights of a model of words in context."""

import math

import torch

from numpy_ref.context.config import parameter_shapes
from torch_impl.rng import STREAM_INIT, normal

TORCH_EXTRA_ARGUMENTS = {"device"}


def initialise(config, seed, dtype, device=None):
    """Unit norms, zero biases and distances, normal matrices of deviation 1 / sqrt(inputs), words of ``init_std``."""
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if name.endswith("norm.weight"):
            value = torch.ones(shape, dtype=dtype)
        elif name.endswith("bias") or "distance" in name:
            value = torch.zeros(shape, dtype=dtype)
        else:
            deviation = config.init_std if name == "word_embedding.weight" else 1 / math.sqrt(shape[-1])
            value = (normal(seed, STREAM_INIT + number, shape) * deviation).to(dtype)
        params[name] = value.to(device or "cpu")
    return params
