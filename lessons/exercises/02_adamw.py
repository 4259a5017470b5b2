"""Lesson 2: one step of AdamW (arXiv:1711.05101, algorithm 2).

    p = p - lr weight_decay p
    m = beta1 m + (1 - beta1) g              v = beta2 v + (1 - beta2) g^2
    mhat = m / (1 - beta1^t)                 vhat = v / (1 - beta2^t)        t: the number of this step, from 1
    p = p - lr mhat / (sqrt(vhat) + eps)

    param, grad (...); state {"step": steps so far, "m", "v"} -> new param, new state

Nothing is changed in place.
"""

import numpy as np


def adamw(param, grad, state, lr, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0):
    raise NotImplementedError
