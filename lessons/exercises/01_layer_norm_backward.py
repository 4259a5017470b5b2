"""Lesson 1: layer norm, backward.

The forward pass is given. Write what takes dy (..., d) to dx (..., d), dweight (d,) and dbias (d,).

x enters three times: in itself, in its mean, and in its deviation r. All three count.
"""

import numpy as np


def layer_norm(x, weight, bias, eps=1e-5):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    r = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    n = centred / r

    def vjp(dy):
        raise NotImplementedError  # dx, dweight, dbias

    return n * weight + bias, vjp
