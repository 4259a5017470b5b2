"""What auto-encoder and concept models start from."""

import math

import torch

from numpy_ref.concepts.config import parameter_shapes
from torch_impl.rng import STREAM_INIT, normal

TORCH_EXTRA_ARGUMENTS = {"device"}


def initialise(config, seed, dtype, device=None):
    """Unit norms, zero biases and modulations, unit embeddings, matrices of deviation 1 / sqrt(inputs), writers into the
    residual stream smaller by sqrt(2 layers). Name -> tensor in the order of ``parameter_shapes``."""
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if name.endswith("norm.weight"):
            value = torch.ones(shape, dtype=dtype)
        elif name.endswith("bias") or "modulation" in name:
            value = torch.zeros(shape, dtype=dtype)
        else:
            inputs = 1 if "embedding" in name else shape[-1]
            if name.endswith(("attention.output.weight", "down.weight")):
                inputs *= 2 * (config.denoiser_layers if name.startswith("denoiser") else config.layers)
            value = (normal(seed, STREAM_INIT + number, shape) / math.sqrt(inputs)).to(dtype)
        params[name] = value.to(device or "cpu")
    return params
