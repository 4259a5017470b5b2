"""Lesson 5: full experts turn tokens away.

Go through the slots of a group in the order of its tokens; what is beyond an expert's capacity becomes -1, an empty slot.

    indices, weights (..., T, K), -1 in slots that are empty already; each group (...) has the capacity for itself
    -> indices

``policy`` is always "position" here: no token may depend on later ones, so the weights don't matter.
"""

import numpy as np


def drop_overflow(indices, weights, capacity, policy="position"):
    raise NotImplementedError
