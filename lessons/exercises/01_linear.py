"""Lesson 1: the backward pass of a matrix product.

The forward pass is given:

    y = x W^T + b        x (..., i), weight W (o, i), bias (o,) or None -> y (..., o)

Write its backward pass. From dy = dL/dy it makes the gradient of everything that y depends on:

    dy (..., o) -> dx (..., i), dweight (o, i), dbias (o,), or None where there is no bias

Nearly all of a language model's arithmetic is this function, and its backward pass is two more of it.
"""

import numpy as np


def linear(x, weight, bias=None):
    y = x @ weight.T
    if bias is not None:
        y = y + bias

    def vjp(dy):
        raise NotImplementedError  # dx, dweight, dbias

    return y, vjp
