"""Lesson 1: layer norm, forward (arXiv:1607.06450).

    n = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)        over the last axis
    y = n * weight + bias

    x (..., d), weight (d,), bias (d,) -> y (..., d)

Return y alone; the backward pass is the next exercise.
"""

import numpy as np


def layer_norm(x, weight, bias, eps=1e-5):
    raise NotImplementedError
