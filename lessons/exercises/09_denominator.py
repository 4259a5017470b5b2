"""Lesson 9: a mean over what?

    "token"       how many tokens count
    "sequence"    how many rows have any token that counts
    "length"      rows times ``length``, the tokens of the longest completion that could have been (None: the columns)

    mask bool (B, T) -> a whole number, at least 1. Raise UserError for another ``by``.
"""

import numpy as np

from numpy_ref.errors import UserError


def loss_denominator(mask, by="token", length=None):
    raise NotImplementedError
