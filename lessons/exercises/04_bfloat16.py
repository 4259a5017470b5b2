"""Lesson 4: rounding to bfloat16, bit by bit.

bfloat16 is the upper half of a float32: sign, 8 bits of exponent, 7 of fraction. Round to the nearest, ties to the number
whose last bit is 0. What is too large becomes infinite, NaN stays NaN.

    x (...) -> (...) float32, the nearest numbers that bfloat16 holds        name: always "bfloat16" here
"""

import numpy as np


def round_to(x, name):
    x = np.asarray(x, np.float32)
    raise NotImplementedError
