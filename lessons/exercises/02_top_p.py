"""Lesson 2: temperature and nucleus sampling (arXiv:1904.09751).

    p = softmax(logits / temperature)

then, from the likeliest token on (equals: the lower id first), a token stays while the mass before it is below top_p; the
others get 0, and what stays is divided by its sum. top_p = 1 keeps all.

    logits (..., V) -> probabilities (..., V), in float64
"""

import numpy as np

from numpy_ref.model.softmax import softmax


def probabilities(logits, temperature=1.0, top_p=1.0):
    raise NotImplementedError
