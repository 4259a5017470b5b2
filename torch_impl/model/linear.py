"""The affine map."""

import torch.nn.functional as F


def linear(x, weight, bias=None):
    """y = x weight^T + bias, the bias added by the matrix product itself.

    Shapes: x (..., i), weight (o, i), bias (o,) or None -> (..., o).
    """
    return F.linear(x, weight, bias)
