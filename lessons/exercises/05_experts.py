"""Lesson 5: send each row to its experts, compute, collect.

    y_n = sum_k w_nk FFN_i(x_n),    i = indices_nk

params: as for ``feed_forward``, with the experts stacked along a first axis: "up.weight" (E, f, d), "up.bias" (E, f),
"down.weight" (E, d, f), "down.bias" (E, d).

    x (N, d), indices and weights (N, K) -> y (N, d);    vjp: dy (N, d) -> dx (N, d), dweights (N, K), dparams

``feed_forward(x, params, activation)`` returns y and its vjp: dy -> dx, dparams.
"""

import numpy as np

from numpy_ref.model.feed_forward import feed_forward


def experts(x, indices, weights, params, activation="gelu"):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dx, dweights, dparams with the keys of params

    return y, vjp
