"""Lesson 6: conversations as rows, and nothing learnt across a border.

Text c is ids[borders[c] : borders[c + 1]], with a weight for each token. The texts number ``chosen`` go side by side into rows of
``width`` places, by best_fit_decreasing. A text of n tokens takes n - 1 places: each but its last token is an input, each but
its first a target, whose weight stands beside it. Empty places have input 0, target -100 and weight 0.

    -> inputs and targets (R, width) int64, weights (R, width) float64
"""

import numpy as np

from numpy_ref.data.packing import best_fit_decreasing


def conversation_batch(ids, weights, borders, chosen, width):
    raise NotImplementedError
