"""Lesson 3: RoPE, rotary position embedding (arXiv:2104.09864, equation 34).

Pairs of features turn with the position:

    y_a = x_a cos - x_b sin
    y_b = x_a sin + x_b cos

A pair is (i, i + r/2), or with ``interleaved`` (2i, 2i + 1), for i in range(r / 2). r is twice the number of phases; the
features from r on pass unchanged.

    x (..., T, d), cos and sin (T, r/2) -> y (..., T, d);    vjp: dy (..., T, d) -> dx (..., T, d)

The phases are constants: they get no gradient.
"""

import numpy as np


def rotary(x, cos, sin, interleaved=False):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dx

    return y, vjp
