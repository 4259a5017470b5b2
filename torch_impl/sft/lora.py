"""Low-rank adapters on the matrices of a model whose weights stay as they are (arXiv:2106.09685)."""

import math

import torch

from numpy_ref.sft import adapters
from torch_impl.model.low_rank import LowRank
from torch_impl.rng import STREAM_ADAPTER, normal


def low_rank(weight, a, b, scale):
    """W + scale B A, the matrix that an adapted linear map amounts to.

    Shapes: weight (o, i), a (r, i), b (o, r) -> (o, i).
    """
    return torch.addmm(weight, b, a, alpha=scale)


def initial_adapters(params, config, lora, seed):
    """Adapters that change nothing yet: A normal with variance 1 / inputs, B zero; and copies of what trains whole.

    Shapes: name -> as in ``trained_shapes``, in the format and on the device of params.
    """
    like, found = params["token_embedding.weight"], {}
    for number, (name, shape) in enumerate(adapters.trained_shapes(config, lora).items()):
        if name in params:
            found[name] = params[name].detach().clone()
        elif name.endswith(adapters.B):
            found[name] = like.new_zeros(shape)
        else:
            drawn = normal(seed, STREAM_ADAPTER + number, shape) / math.sqrt(shape[1])
            found[name] = drawn.to(like)
    return found


def adapt(frozen, params, config, lora):
    """The model's weights with the trained ones in them; autograd knows which are which.

    In the blocks an adapted matrix becomes a ``LowRank``, which ``linear`` multiplies part by part; elsewhere, where
    matrices are also read as such, the sum. Shapes: frozen and params name -> (...) -> name -> tensor or ``LowRank``.
    """
    weights = frozen | {name: value for name, value in params.items() if name in frozen}
    for name in adapters.adapted(config, lora):
        parts = frozen[name], *(params[part] for part in adapters.pair(name)), lora.scale
        weights[name] = LowRank(*parts) if name.startswith("blocks.") else low_rank(*parts)
    return weights


def merge(frozen, params, config, lora):
    """One plain tensor for each weight, the adapters added in float64. Shapes: as ``adapt`` -> name -> tensor."""
    weights = frozen | {name: value for name, value in params.items() if name in frozen}
    return _added(weights, params, config, lora, lora.scale)


def unmerge(weights, params, config, lora):
    """The frozen weights again, to the rounding of ``merge``; trained-whole parameters stay as they are."""
    return _added(weights, params, config, lora, -lora.scale)


@torch.no_grad()
def _added(weights, params, config, lora, scale):
    found = dict(weights)
    for name in adapters.adapted(config, lora):
        a, b = (params[part].cpu().double() for part in adapters.pair(name))
        found[name] = low_rank(weights[name].cpu().double(), a, b, scale).to(weights[name])
    return found
