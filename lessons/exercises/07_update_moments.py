"""Lesson 7: count, mean and spread of all rewards so far, from those before and one more batch.

With n, m, S (count, mean, sum of squared deviations from the mean) of before, and k, a, Q of the batch, d = a - m:

    n' = n + k        m' = m + d k / n'        S' = S + Q + d^2 n k / n'

An empty batch changes nothing. Compute in float64.

    moments {"count", "mean", "squares"}, rewards (B,) -> new dict of Python numbers
"""

import numpy as np


def update_moments(moments, rewards):
    raise NotImplementedError
