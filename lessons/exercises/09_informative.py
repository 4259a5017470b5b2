"""Lesson 9: which groups teach anything? Those with two different rewards (DAPO, arXiv:2503.14476, equation 11).

    rewards (P, G), valid bool (P, G) or None (all are) -> bool (P,)

Rewards that are not valid don't count, whatever they are.
"""

import numpy as np


def informative(rewards, valid=None):
    raise NotImplementedError
