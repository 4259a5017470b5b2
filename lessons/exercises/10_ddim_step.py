"""Lesson 10: one step from noise towards what the model takes for the clean vector (DDIM, arXiv:2010.02502, eq. 12, 16).

    noise = (x - sqrt(level) clean) / sqrt(1 - level) / noise_scale
    s^2   = eta^2 (1 - next_level) / (1 - level) (1 - level / next_level)
    y     = sqrt(next_level) clean + sqrt(1 - next_level - s^2) noise + s fresh

    x, clean, fresh (..., d); level, next_level, noise_scale, eta: numbers -> (..., d)

fresh is new noise: eta = 0 takes none (and then fresh may be None), eta = 1 as much as DDPM. At next_level = 0 s is 0.
A level is the share of the variance that is signal: 0 is noise alone, 1 the clean vector.
"""

import math

import numpy as np


def ddim_step(x, clean, level, next_level, noise_scale=1.0, eta=0.0, fresh=None):
    raise NotImplementedError  # y
