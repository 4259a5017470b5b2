"""Lesson 10: a context scales and shifts a word's vector, feature by feature (FiLM, arXiv:1709.07871).

    y = (1 + Ws c) * x + Wb c

    x, context c (..., d); params: "scale.weight" Ws, "shift.weight" Wb (d, d) -> y (..., d);
    vjp: dy -> dx, dcontext, {"scale.weight", "shift.weight"}

Without context, c = 0, the word stays what it is.
"""

import numpy as np

from numpy_ref.model.linear import linear


def film(x, context, params):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dx, dcontext, grads

    return y, vjp
