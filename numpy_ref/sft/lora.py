"""LoRA: what a matrix learns is the product of two small ones beside it; the matrix itself stays as it is."""

import numpy as np

from numpy_ref.rng import STREAM_ADAPTER, normal
from numpy_ref.sft import adapters


def low_rank(weight, a, b, scale):
    """A matrix and its adapter as one (arXiv:2106.09685, section 4.1, equation 3).

        W' = W + s B A,    s = alpha / r

    Shapes: weight W (o, i), a A (r, i), b B (o, r) -> W' (o, i);  vjp: dW' (o, i) -> dW (o, i), dA (r, i), dB (o, r).

    Backward. dW' flows to W unchanged, and to the product as to any other:

        dW = dW'        dB = s dW' A^T        dA = s B^T dW'
    """

    def vjp(dy):
        return dy.copy(), scale * (b.T @ dy), scale * (dy @ a.T)

    return weight + scale * (b @ a), vjp


def initial_adapters(params, config, lora, seed):
    """What is trained, before the first step: name -> array, as ``trained_shapes`` has them.

    A is normal with deviation 1 / sqrt(i) (o, i: the matrix's shape), B is 0: at first nothing changes, and B's gradient
    is not 0 (section 4.1; the paper leaves A's deviation open). Parameters trained as a whole begin as they are in params.
    Each A draws from a stream of its own, in float64.
    """
    found = {}
    for number, (name, shape) in enumerate(adapters.trained_shapes(config, lora).items()):
        dtype = params["token_embedding.weight"].dtype
        if name in params:
            found[name] = params[name].copy()
        elif name.endswith(adapters.A):
            found[name] = (normal(seed, STREAM_ADAPTER + number, shape) / np.sqrt(shape[1])).astype(dtype)
        else:
            found[name] = np.zeros(shape, dtype)
    return found


def adapt(frozen, params, config, lora):
    """The weights of the model: frozen ones, with adapters where there are some, or what is trained in their place.

    frozen: every parameter of the model; params: those that are trained.
    Returns name -> array, as ``parameter_shapes`` names them;  vjp: grads of those -> grads of params.
    """
    weights, vjps = {name: params.get(name, value) for name, value in frozen.items()}, {}
    for name in adapters.adapted(config, lora):
        first, second = adapters.pair(name)
        weights[name], vjps[name] = low_rank(frozen[name], params[first], params[second], lora.scale)

    def vjp(grads):
        found = {name: grads[name] for name in params if name in grads}
        for name, low_rank_vjp in vjps.items():
            _, da, db = low_rank_vjp(grads[name])
            found |= dict(zip(adapters.pair(name), (da, db)))
        return {name: found[name] for name in params}

    return weights, vjp


def merge(frozen, params, config, lora):
    """The weights of ``adapt``, for use without adapters: computed in float64, rounded once. -> name -> array."""
    wide = ({name: value.astype(np.float64) for name, value in group.items()} for group in (frozen, params))
    merged, _ = adapt(*wide, config, lora)
    return {name: value.astype(frozen[name].dtype) for name, value in merged.items()}


def unmerge(weights, params, config, lora):
    """What was frozen, from merged weights and adapters: W = W' - s B A, in float64, rounded once.

    Exact but for the rounding that merging made: to half a unit in the last place of W'. Whoever keeps the frozen
    weights has them to the bit. What is trained as a whole is as it is in the merged weights.
    """
    found = dict(weights)
    for name in adapters.adapted(config, lora):
        a, b = (params[part].astype(np.float64) for part in adapters.pair(name))
        found[name] = (weights[name].astype(np.float64) - lora.scale * (b @ a)).astype(weights[name].dtype)
    return found
