"""The weights of a byte model before training."""

import math

import numpy as np

from numpy_ref.patching.config import parameter_shapes
from numpy_ref.rng import STREAM_INIT, normal


def initialise(config, seed, dtype):
    """Parameters in the order of ``parameter_shapes``, drawn as those of the transformer (`model/initialise.py`).

    Norms are 1; what writes into the residual stream of a stack of n blocks begins smaller by sqrt(2 n). H-Net's router
    begins with identities, so that it compares neighbouring bytes as they are, and its residual with zeros (section 2.3
    of arXiv:2507.07955).
    """
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if name.endswith("norm.weight"):
            params[name] = np.ones(shape, dtype)
        elif name.startswith("route."):
            params[name] = np.eye(shape[0], dtype=dtype)
        elif name == "residual.weight":
            params[name] = np.zeros(shape, dtype)
        else:
            params[name] = (normal(seed, STREAM_INIT + number, shape) * _deviation(name, config)).astype(dtype)
    return params


def _deviation(name, config):
    if not name.endswith(("attention.output.weight", "feed_forward.down.weight")):
        return config.init_std
    return config.init_std / math.sqrt(2 * config.stack(name.partition(".")[0]).layers)
