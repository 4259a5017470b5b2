"""The weights of the auto-encoder and of concept models before training."""

import math

import numpy as np

from numpy_ref.concepts.config import AutoencoderConfig, parameter_shapes
from numpy_ref.rng import STREAM_INIT, normal


def initialise(config, seed, dtype):
    """Parameters in the order of ``parameter_shapes``; config: AutoencoderConfig or ConceptConfig.

    Norms are 1, biases 0. Matrices are normal with deviation 1 / sqrt(inputs), embeddings with 1; those that write into
    a residual stream begin smaller by sqrt(2 layers). The modulations of the denoiser begin with 0, so that its gates do
    (AdaLN-zero, arXiv:2212.09748, section 3.2).
    """
    params = {}
    for number, (name, shape) in enumerate(parameter_shapes(config).items()):
        if name.endswith("norm.weight"):
            params[name] = np.ones(shape, dtype)
        elif name.endswith("bias") or "modulation" in name:
            params[name] = np.zeros(shape, dtype)
        else:
            params[name] = (normal(seed, STREAM_INIT + number, shape) * _deviation(name, shape, config)).astype(dtype)
    return params


def _deviation(name, shape, config):
    if "embedding" in name:
        return 1.0
    layers = config.layers if isinstance(config, AutoencoderConfig) or not name.startswith("denoiser") else config.denoiser_layers
    writes = name.endswith(("attention.output.weight", "down.weight"))
    return 1.0 / math.sqrt(shape[-1] * (2 * layers if writes else 1))
