"""Lesson 1: softmax that cannot overflow, and its backward pass.

    y_i = exp(x_i) / sum_j exp(x_j)        over the last axis

Scores of a few hundred occur, and exp(800) is infinite: compute the same in a way that never overflows.

    x (..., n) -> y (..., n);    vjp: dy (..., n) -> dx (..., n)
"""

import numpy as np


def softmax(x):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dx

    return y, vjp
