"""Lesson 9: a price of distance that finds its target (arXiv:1909.08593, equation 4).

    e = clip(kl / target - 1, -0.2, 0.2)        coefficient <- coefficient (1 + e sequences / horizon)

Numbers in, a number out. Raise UserError for a target that is not above 0.
"""

from numpy_ref.errors import UserError


def adapted_coefficient(coefficient, kl, target, sequences, horizon=10000):
    raise NotImplementedError
