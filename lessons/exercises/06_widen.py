"""Lesson 6: new tokens for a model that has learnt without them.

    new row = m + s * z        m and s: mean and deviation of each column of the old rows;    z = normal(seed, stream, ...)

Old rows keep their places. Compute in float64, then cast to the format of the weight.

    weight (V, d) -> (rows, d); one that has as many rows already is returned as it is
"""

import numpy as np

from numpy_ref.rng import normal


def widen(weight, rows, seed, stream):
    raise NotImplementedError
