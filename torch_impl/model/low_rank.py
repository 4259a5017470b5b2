"""A matrix with an adapter beside it, multiplied without ever adding the two."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

TORCH_ONLY_FILE = "the reference adds the product of an adapter's two matrices to the weight"


@dataclass(frozen=True)
class LowRank:
    """W + scale B A as a weight of ``linear``. Shapes: weight (o, i), a (r, i), b (o, r).

    x W^T + scale (x A^T) B^T costs r (i + o) more a token; in the backward pass the gradient of W, as large as W and a
    third of the work of a linear map, is not computed.
    """

    weight: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    scale: float

    def linear(self, x, bias=None):
        """Shapes: x (..., i), bias (o,)? -> (..., o)."""
        return torch.add(F.linear(x, self.weight, bias), F.linear(F.linear(x, self.a), self.b), alpha=self.scale)
