"""The weights that a byte model starts from."""

import math

import torch

from numpy_ref.patching.config import parameter_shapes
from torch_impl.rng import STREAM_INIT, normal

TORCH_EXTRA_ARGUMENTS = {"device"}


def initialise(config, seed, dtype, device=None):
    """As for the transformer: normal weights, unit norms, residual writers smaller by sqrt(2 blocks of their stack); the
    router of H-Net the identity, its residual 0. Name -> tensor in the order of ``parameter_shapes``."""
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if name.endswith("norm.weight"):
            value = torch.ones(shape, dtype=dtype)
        elif name.startswith("route."):
            value = torch.eye(shape[0], dtype=dtype)
        elif name == "residual.weight":
            value = torch.zeros(shape, dtype=dtype)
        else:
            writes = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
            layers = config.stack(name.partition(".")[0]).layers if writes else 0.5
            value = (normal(seed, STREAM_INIT + number, shape) * (config.init_std / math.sqrt(2 * layers))).to(dtype)
        params[name] = value.to(device or "cpu")
    return params
