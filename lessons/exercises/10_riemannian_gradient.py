"""Lesson 10: which way is steepest, where a step of the same length is not equally long everywhere?

In the ball lengths at x are lambda = 2 / (1 - c ||x||^2) times Euclid's. The direction of steepest ascent is the Euclidean
gradient divided by the metric, lambda^2.

    x, grad (N, d), c () -> (N, d)
"""

import numpy as np


def riemannian_gradient(x, grad, c):
    raise NotImplementedError
