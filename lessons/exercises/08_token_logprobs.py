"""Lesson 8: how likely was what it said, under the distribution that it was drawn from?

    l = s_y - ln sum_j exp(s_j),    s = logits / temperature

    logits (B, T, V), targets y (B, T) -> (B, T);    vjp: dl (B, T) -> dlogits (B, T, V)
"""

import numpy as np


def token_logprobs(logits, targets, temperature=1.0):
    raise NotImplementedError  # logprobs

    def vjp(dy):
        raise NotImplementedError  # dlogits

    return logprobs, vjp
