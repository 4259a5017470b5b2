"""Lesson 7: learning from whole rankings, best answer first (Plackett 1975, Luce 1959).

Each place is won against all that are left, by a softmax:

    l = mean over the lists of sum_k (lse_k - r_k),    lse_k = ln sum_{j >= k} exp(r_j)

    rewards (B, K) -> ();    vjp: dy () -> drewards (B, K)

Rewards that lie a thousand apart must not overflow.
"""

import numpy as np


def plackett_luce(rewards):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # drewards

    return loss, vjp
