"""Lesson 10: where is the next byte hard to predict? There a new patch is worth its price (arXiv:2412.09871).

    H_t = - sum over bytes v of p(v | bytes before t) ln p(v | bytes before t)

    logits (B, T, V), where those at t - 1 predict byte t -> (B, T + 1); nothing predicts byte 0: H_0 = ln V
"""

import math

import numpy as np


def next_byte_entropies(logits):
    raise NotImplementedError
