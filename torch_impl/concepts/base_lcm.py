"""Base-LCM (arXiv:2412.08821 §2.3.1): regression of the next concept."""

import torch

from torch_impl.model.block import with_prefix
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm
from torch_impl.patching.byte_stack import stack


def contextualise(x, params, config):
    """A causal transformer over concepts. Shapes: x (B, T, c) -> (B, T, d)."""
    own = config.stack("context")
    x = stack(linear(x, params["input.weight"]), with_prefix(params, "context"), own)
    return rms_norm(x, params["context_norm.weight"], own.norm_eps)


def base_lcm(x, params, config):
    """The next concept after each of them. Shapes: x (B, T, c) -> (B, T, c)."""
    return linear(contextualise(x, params, config), params["output.weight"], params["output.bias"])


def squared_distance(prediction, target):
    """Squared error, summed over features and averaged over all else, in float32 or better. Shapes: (..., c) -> ()."""
    wide = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(wide) - target.to(wide)).square().sum(-1).mean()
