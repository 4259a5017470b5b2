"""From noise to a concept: one step of a deterministic sampler, and the guidance that makes the context count for more."""

import math

import numpy as np


def ddim_step(x, clean, level, next_level, noise_scale=1.0):
    """One step of DDIM without fresh noise, from what the model takes for the clean vector (arXiv:2010.02502, eq. 12).

        noise = (x - sqrt(level) clean) / sqrt(1 - level) / noise_scale
        y     = sqrt(next) clean + sqrt(1 - next) noise

    At next = 1 that is the clean vector. At level = 0, where sampling begins, x is noise alone and nothing is divided by
    0, as it would be for a model that predicts the noise. noise_scale: a little above 1 takes back what models tend to
    exaggerate (arXiv:2308.15321).

    Shapes: x, clean (..., d); levels: numbers, 0 <= level < 1, level <= next_level <= 1 -> (..., d).
    """
    noise = (x - math.sqrt(level) * clean) * (1.0 / (math.sqrt(1.0 - level) * noise_scale))
    return math.sqrt(next_level) * clean + math.sqrt(1.0 - next_level) * noise


def guided(conditional, unconditional, guidance, rescale=0.0):
    """Classifier-free guidance (arXiv:2207.12598), and its rescaling (arXiv:2305.08891, eq. 15 and 16).

        g = u + guidance (c - u)        r = g std(c) / std(g)        y = rescale r + (1 - rescale) g

    guidance 1 is the conditional prediction, 0 the unconditional one. Above 1 the vectors grow; rescaling gives them back
    the spread over their features that c has. Where g has no spread, r is g.

    Shapes: conditional c, unconditional u (..., d) -> (..., d).
    """
    g = unconditional + guidance * (conditional - unconditional)
    spread, wanted = _deviation(g), _deviation(conditional)
    flat = spread == 0
    return g * (rescale * np.where(flat, 1.0, wanted / np.where(flat, 1.0, spread)) + (1.0 - rescale))


def _deviation(x):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True))
