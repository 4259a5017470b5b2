"""The weights before training."""

import math

import numpy as np

from numpy_ref.config import parameter_shapes
from numpy_ref.rng import STREAM_INIT, normal


def initialise(config, seed, dtype):
    """Parameters in the order of ``parameter_shapes``, drawn as for GPT-2 (Radford et al. 2019, section 2.3).

    Weights are normal with deviation s = init_std. With n layers, the two that write into the residual stream have
    s / sqrt(2 n): the stream adds up 2 n branches, and so its variance does not grow with depth. Norms begin as the
    identity: weights 1, biases 0. Other biases begin at 0.

    Every parameter draws from a stream of its own, numbered by its place, so that a change of one shape leaves the
    others alone. Drawn and scaled in float64, then cast to ``dtype``.
    """
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if name.endswith("norm.weight"):
            params[name] = np.ones(shape, dtype)
        elif name.endswith(".bias"):
            params[name] = np.zeros(shape, dtype)
        else:
            params[name] = (normal(seed, STREAM_INIT + number, shape) * _deviation(name, config)).astype(dtype)
    return params


def _deviation(name, config):
    residual = name.endswith(("attention.output.weight", ".down.weight"))
    return config.init_std / math.sqrt(2 * config.layers) if residual else config.init_std
