"""Lesson 10: one step from noise towards what the model takes for the clean vector (DDIM, arXiv:2010.02502, eq. 12).

    noise = (x - sqrt(level) clean) / sqrt(1 - level) / noise_scale
    y     = sqrt(next_level) clean + sqrt(1 - next_level) noise

    x, clean (..., d); level, next_level, noise_scale: numbers -> (..., d)

A level is the share of the variance that is signal: 0 is noise alone, 1 the clean vector.
"""

import math

import numpy as np


def ddim_step(x, clean, level, next_level, noise_scale=1.0):
    raise NotImplementedError  # y
