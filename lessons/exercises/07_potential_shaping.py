"""Lesson 7: hints on the way that leave the best policy what it is (Ng, Harada and Russell 1999).

    f_t = gamma phi(s_(t+1)) - phi(s_t),    phi = 0 once the answer has ended

Why does that change nothing? Their discounted sum is -phi(s_0), which no action can change.

    potentials (B, T) of the states before each token, mask bool (B, T), True for tokens of the answer (neighbours)
    -> (B, T) in the format of the potentials, 0 where there is no token
"""

import numpy as np


def potential_shaping(potentials, mask, gamma=1.0):
    raise NotImplementedError
