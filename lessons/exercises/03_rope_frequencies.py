"""Lesson 3: how fast RoPE turns, and how it is stretched for longer texts.

    f_i = base^(-2i / width),    i = 0 ... width / 2 - 1                  radians a token (arXiv:2104.09864)

    scaling "none":      as it is
    scaling "linear":    f / factor                                       (arXiv:2306.15595)
    scaling "ntk":       base becomes base * factor^(width / (width - 2)) (arXiv:2309.00071, section 3.1)

    width even -> (frequencies (width / 2,) in float64, 1.0)

The second result is a factor on the length of queries and keys, which only another scaling (YaRN) changes.
"""

import numpy as np


def rope_frequencies(width, base=10000.0, scaling="none", factor=1.0):
    raise NotImplementedError
