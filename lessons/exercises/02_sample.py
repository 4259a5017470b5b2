"""Lesson 2: from probabilities and a random number to a token.

    token = smallest i with p_0 + ... + p_i > uniform * (p_0 + ... + p_V-1)

A token of probability 0 must never come out, and rounding must not run off the end.

    probabilities (..., V), uniform (...) in [0, 1) -> ids (...) int64
"""

import numpy as np


def sample(probabilities, uniform):
    raise NotImplementedError
