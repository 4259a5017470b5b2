"""Lesson 5: balance without a loss (arXiv:2408.15664): who has too few tokens becomes easier to choose.

    b_i = b_i + rate * sign(mean load - load_i)

    bias (E,), load (E,) whole numbers -> (E,) in the format of the bias
"""

import numpy as np


def update_bias(bias, load, rate):
    raise NotImplementedError
