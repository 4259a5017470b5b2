"""Lesson 5: how many of a group's tokens does an expert take?

    ceil(factor * k * tokens / experts), and never more than there are tokens

Numbers in, a whole number out.
"""

import math


def expert_capacity(tokens, experts, k, factor):
    raise NotImplementedError
