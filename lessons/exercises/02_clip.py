"""Lesson 2: clipping by the global norm (arXiv:1211.5063).

One bad batch must not throw the weights far away. All gradients together are one long vector; if it is longer than
``max_norm``, it is shortened to that length and keeps its direction:

    g = g min(1, max_norm / norm)

    grads: dict name -> array -> (new dict, the norm before clipping)

A norm that is NaN makes every gradient NaN, so that the broken step is seen.
"""

import numpy as np


def clip_by_global_norm(grads, max_norm):
    raise NotImplementedError
