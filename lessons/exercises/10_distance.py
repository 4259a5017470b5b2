"""Lesson 10: distance in the Poincare ball of curvature -c (arXiv:1705.08039).

    d = 2 asinh(sqrt(h)) / sqrt(c),    h = c ||x - y||^2 / ((1 - c ||x||^2) (1 - c ||y||^2))

    x, y (N, d) inside the ball, c () -> (N,)

Why not acosh(1 + 2 h)?
"""

import numpy as np


def distance(x, y, c):
    raise NotImplementedError
