"""Layer normalisation."""

import torch.nn.functional as F


def layer_norm(x, weight, bias=None, eps=1e-5):
    """Layer norm (arXiv:1607.06450, eq. 4): zero mean and unit variance over the last axis, then scale and shift.

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Shapes: x (..., d), weight (d,), bias (d,) -> y (..., d). One fused call; moments are computed in float32 or better.

    In 16 bits PyTorch's CPU kernel sums the gradients of weight and bias row by row in 16 bits: a sum of 4096 equal
    terms stops growing at 256 of them. In float32 it is exact and no slower, so there the call runs in float32.
    """
    if x.itemsize == 2 and x.device.type == "cpu":
        bias = None if bias is None else bias.float()
        return F.layer_norm(x.float(), weight.shape, weight.float(), bias, eps).to(x.dtype)
    return F.layer_norm(x, weight.shape, weight, bias, eps)
