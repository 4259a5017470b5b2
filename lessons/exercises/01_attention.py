"""Lesson 1: attention (arXiv:1706.03762, equation 1).

    S = Q K^T / sqrt(d)        P = softmax(S), with S = -inf where a key is hidden        Y = P V

Causal: the last query stands at the last key, and nobody sees the future (the exercise 01_causal_mask).

    query (H, Tq, d), key (H, Tk, d), value (H, Tk, e) -> Y (H, Tq, e)
    vjp: dY -> dquery, dkey, dvalue, shaped like the arguments

A product C = A B has dA = dC B^T and dB = A^T dC; ``softmax`` brings its own vjp.
"""

import math

import numpy as np

from numpy_ref.model.attention import causal_mask
from numpy_ref.model.softmax import softmax


def scaled_dot_product_attention(query, key, value, causal=False):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dquery, dkey, dvalue

    return y, vjp
