"""The weights of a model of words in context before training."""

import math

import numpy as np

from numpy_ref.context.config import parameter_shapes
from numpy_ref.rng import STREAM_INIT, normal


def initialise(config, seed, dtype):
    """Parameters in the order of ``parameter_shapes``: norms 1, biases and distances 0, the table of words with the config's
    deviation, matrices with 1 / sqrt(inputs)."""
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if name.endswith("norm.weight"):
            params[name] = np.ones(shape, dtype)
        elif name.endswith("bias") or "distance" in name:
            params[name] = np.zeros(shape, dtype)
        else:
            deviation = config.init_std if name == "word_embedding.weight" else 1.0 / math.sqrt(shape[-1])
            params[name] = (deviation * normal(seed, STREAM_INIT + number, shape)).astype(dtype)
    return params
