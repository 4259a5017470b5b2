"""Lesson 8: how undecided is the policy about its next token?

    H = -sum_j p_j ln p_j,    p = softmax(logits / temperature)

    logits (B, T, V) -> (B, T);    vjp: dH (B, T) -> dlogits (B, T, V)
"""

import numpy as np


def token_entropy(logits, temperature=1.0):
    raise NotImplementedError  # entropy

    def vjp(dy):
        raise NotImplementedError  # dlogits

    return entropy, vjp
