"""Lesson 5: a loss that asks for balance: 1 where every expert has the same share, E where one has all.

    L = sum_i f_i P_i        f_i = E c_i / sum_j c_j        P_i = mean over the tokens of s_i / sum_j s_j

c_i: how many slots chose expert i. Counting has no derivative; the gradient is in P.

    scores s (T, E), indices (T, K) -> ();    vjp: dL () -> dscores (T, E)
"""

import numpy as np

from numpy_ref.model.balance import expert_load


def balance_loss(scores, indices):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dscores

    return loss, vjp
