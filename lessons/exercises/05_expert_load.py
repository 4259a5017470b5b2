"""Lesson 5: how many slots go to each expert?

    indices (..., T, K): the experts of each token, -1 in empty slots -> (..., E) int64
"""

import numpy as np


def expert_load(indices, experts):
    raise NotImplementedError
