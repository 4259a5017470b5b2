"""Word vectors changed by their context."""

import torch

from torch_impl.model.linear import linear


def gated(x, context, params):
    """x + sigmoid(Wg [x; c] + b) * (Wu [x; c]).

    Shapes: x, context (..., d), gate.weight and change.weight (d, 2d), gate.bias (d,) -> (..., d).
    """
    both = torch.cat((x, context), -1)
    gate = linear(both, params["gate.weight"], params["gate.bias"])
    return x + torch.sigmoid(gate) * linear(both, params["change.weight"])


def film(x, context, params):
    """(1 + Ws c) * x + Wb c (FiLM, arXiv:1709.07871). Shapes: x, context (..., d), scale.weight, shift.weight (d, d)
    -> (..., d)."""
    return torch.addcmul(x + linear(context, params["shift.weight"]), linear(context, params["scale.weight"]), x)
