"""Lesson 5: how much does each chosen expert count?

    s = softmax(logits) over all experts        w_i = s_i / (sum of s over the chosen)

    logits (T, E), indices (T, K) of the chosen experts -> weights (T, K);    vjp: dw (T, K) -> dlogits (T, E)

The choice itself has no derivative: all that the router learns comes through these weights.
"""

import numpy as np

from numpy_ref.model.softmax import softmax


def gate_weights(logits, indices):
    raise NotImplementedError  # weights

    def vjp(dy):
        raise NotImplementedError  # dlogits

    return weights, vjp
