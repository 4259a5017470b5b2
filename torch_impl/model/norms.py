"""Normalisation of each vector of features."""

import torch.nn.functional as F


def layer_norm(x, weight, bias=None, eps=1e-5):
    """Layer normalisation (arXiv:1607.06450, eq. 4), fused: one pass for the moments, one for the result.

        y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias

    Shapes: x (..., d), weight (d,), bias (d,) or None -> (..., d). Moments are float32 for 16-bit x.
    """
    return F.layer_norm(x, weight.shape, weight, bias, eps)
