"""Lesson 3: a gate (SwiGLU, arXiv:2002.05202).

One half of the features opens and closes the other:

    y = silu(a) * b,    x = [a, b]

    x (..., 2f) -> y (..., f);    vjp: dy (..., f) -> dx (..., 2f)
"""

import numpy as np

from numpy_ref.model.activations import silu


def swiglu(x):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dx

    return y, vjp
