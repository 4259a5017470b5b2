"""Lesson 6: the prompt is given, so nothing is learnt from predicting it.

The mean of each token's cross-entropy times its weight: 1 in an answer, 0 (or a little) in the prompt.

    l = sum_n w_n (lse_n - logits_n[target_n]) / sum_n w_n        lse = ln sum_j exp(logits_j);  0 where all weights are 0

    logits (B, T, V), targets (B, T), weights (B, T) -> ();    vjp: dy () -> dlogits (B, T, V); weights are constants
"""

import numpy as np


def cross_entropy(logits, targets, weights):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dlogits

    return loss, vjp
