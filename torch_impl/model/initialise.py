"""The weights that training starts from."""

import math

import torch

from numpy_ref.config import parameter_shapes
from torch_impl.rng import STREAM_INIT, normal

TORCH_EXTRA_ARGUMENTS = {"device", "names"}


def initialise(config, seed, dtype, device=None, names=None):
    """Normal weights of standard deviation ``init_std``, unit norms, zero biases; the same from a seed on both wings.

    What writes to the residual stream starts smaller by sqrt(2 layers), the number of writers, so that the stream's
    variance does not grow with depth (GPT-2: Radford et al. 2019 §2.3).
    Returns name -> tensor in ``dtype``, in the order of ``parameter_shapes``; only those of ``names``, where given.
    """
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if names is not None and name not in names:
            continue
        if name.endswith(".bias"):
            params[name] = torch.zeros(shape, dtype=dtype, device=device)
        elif name.endswith("norm.weight"):
            params[name] = torch.ones(shape, dtype=dtype, device=device)
        else:
            writes = name.endswith(("attention.output.weight", ".down.weight"))
            std = config.init_std / math.sqrt(2 * config.layers) if writes else config.init_std
            weights = normal(seed, STREAM_INIT + number, shape, device=device) * std
            params[name] = weights.to(dtype).to(device or "cpu")
    return params
