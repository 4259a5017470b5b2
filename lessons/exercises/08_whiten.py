"""Lesson 8: advantages of mean 0 and variance 1 over the tokens that count, 0 elsewhere.

    y = (x - mean) / sqrt(var + eps),    var = sum (x - mean)^2 / (n - 1), and 0 for a single token

With shift_mean=False the mean stays: x / sqrt(var + eps).

    x (B, T), mask bool (B, T) -> (B, T). What the mask hides may be anything, NaN too.
"""

import numpy as np


def whiten(x, mask, shift_mean=True, eps=1e-8):
    raise NotImplementedError
