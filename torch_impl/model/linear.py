"""The affine map."""

import torch.nn.functional as F

from torch_impl.model.float8 import Float8, float8_linear
from torch_impl.model.low_rank import LowRank
from torch_impl.model.quantization import Quantized, quantized_linear


def linear(x, weight, bias=None):
    """y = x weight^T + bias, the bias added by the matrix product itself.

    Shapes: x (..., i), weight (o, i), bias (o,) or None -> (..., o).
    """
    if isinstance(weight, Quantized):
        return quantized_linear(x, weight, bias)
    if isinstance(weight, Float8):
        return float8_linear(x, weight.values, bias)
    if isinstance(weight, LowRank):
        return weight.linear(x, bias)
    return F.linear(x, weight, bias)
