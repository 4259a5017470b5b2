"""Lesson 6: many texts in few rows, by "best fit decreasing" (D. S. Johnson et al., 1974).

The longest text first; each into the row with the least room that is room enough, or else into a new row. Of texts of one
length the first goes first, of rows with the same room too.

    lengths: (n,) whole numbers from 1 to capacity -> row (n,) and start (n,), int64: where each text goes
"""

import numpy as np


def best_fit_decreasing(lengths, capacity):
    raise NotImplementedError
