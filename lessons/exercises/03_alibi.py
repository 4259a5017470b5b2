"""Lesson 3: ALiBi (arXiv:2108.12409). Every head likes near keys better, each by a slope of its own.

    bias = -slope * (query - key),    0 for keys in the future

    query_positions (B, Tq), key_positions (B, Tk), slopes (H,) -> (B, H, Tq, Tk), in the format of the slopes
"""

import numpy as np


def alibi_bias(query_positions, key_positions, slopes):
    raise NotImplementedError
