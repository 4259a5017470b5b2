"""Lesson 9: is the critic any good? The share of the returns' variance that it foresaw.

    1 - var(returns - values) / var(returns)        over the tokens that count;  0 where all returns are equal

    values, returns, mask bool (B, T) -> (). What the mask hides may be anything, NaN too.
"""

import numpy as np


def explained_variance(values, returns, mask):
    raise NotImplementedError
