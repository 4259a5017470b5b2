"""Lesson 10: adding points of the ball (arXiv:1805.09112, equation 2). Neither commutative nor associative.

    x (+) y = ((1 + 2c x.y + c ||y||^2) x + (1 - c ||x||^2) y) / (1 + 2c x.y + c^2 ||x||^2 ||y||^2)

    x, y (N, d), c () -> (N, d)
"""

import numpy as np


def mobius_add(x, y, c):
    raise NotImplementedError
