"""Lesson 3: RMS norm, backward.

The forward pass is given. Write what takes dy (..., d) to dx (..., d) and dweight (d,). Half of layer norm's backward pass
is enough: which half?
"""

import numpy as np


def rms_norm(x, weight, eps=1e-6):
    r = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    n = x / r

    def vjp(dy):
        raise NotImplementedError  # dx, dweight

    return n * weight, vjp
