"""Lesson 3: grouped queries (arXiv:2305.13245). Several query heads read one key head.

Attention as in the exercise 01_attention, but there are G key and value heads for H query heads, H a multiple of G, and
query head h reads key head h // (H / G). A cache is then smaller by H / G.

    query (H, T, d), key and value (G, T, d) -> Y (H, T, d)
    vjp: dY -> dquery, dkey, dvalue, shaped like the arguments

``causal`` is always True here.
"""

import math

import numpy as np

from numpy_ref.model.attention import causal_mask
from numpy_ref.model.softmax import softmax


def scaled_dot_product_attention(query, key, value, causal=True):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dquery, dkey, dvalue

    return y, vjp
