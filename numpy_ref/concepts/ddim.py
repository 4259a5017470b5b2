"""From noise to a concept: one step of a sampler, and the guidance that makes the context count for more."""

import math

import numpy as np


def ddim_step(x, clean, level, next_level, noise_scale=1.0, eta=0.0, fresh=None):
    """One step of DDIM, from what the model takes for the clean vector (arXiv:2010.02502, eq. 12 and 16).

        noise = (x - sqrt(level) clean) / sqrt(1 - level) / noise_scale
        s^2   = eta^2 (1 - next) / (1 - level) (1 - level / next)
        y     = sqrt(next) clean + sqrt(1 - next - s^2) noise + s fresh

    eta = 0 goes one way from the first noise; with eta = 1 as much of the noise is new at each step as DDPM draws. At
    next = 1 y is the clean vector. At level = 0, where sampling begins, x is noise alone and nothing is divided by
    0, as it would be for a model that predicts the noise. noise_scale: a little above 1 takes back what models tend to
    exaggerate (arXiv:2308.15321).

    Shapes: x, clean, fresh (..., d), fresh standard normal and not needed where s = 0; levels: numbers, 0 <= level < 1,
    level <= next_level <= 1; 0 <= eta <= 1 -> (..., d).
    """
    noise = (x - math.sqrt(level) * clean) * (1.0 / (math.sqrt(1.0 - level) * noise_scale))
    gained = (next_level - level) / next_level if next_level > level else 0.0
    variance = eta**2 * (1.0 - next_level) / (1.0 - level) * gained
    y = math.sqrt(next_level) * clean + math.sqrt(max(0.0, 1.0 - next_level - variance)) * noise
    return y + math.sqrt(variance) * fresh if variance else y


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
