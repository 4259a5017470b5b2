"""Sampling concepts from a denoiser: DDIM and classifier-free guidance."""

import math

import torch


def ddim_step(x, clean, level, next_level, noise_scale=1.0):
    """x_{t-1} of DDIM with eta = 0 for a model that predicts the clean vector (arXiv:2010.02502 eq. 12).

    noise_scale divides the noise (arXiv:2308.15321). Shapes: x, clean (..., d), levels numbers -> (..., d).
    """
    noise = math.sqrt(1 - next_level) / (math.sqrt(1 - level) * noise_scale)  # what becomes of x
    return noise * x + (math.sqrt(next_level) - noise * math.sqrt(level)) * clean


def guided(conditional, unconditional, guidance, rescale=0.0):
    """u + guidance (c - u), a share ``rescale`` of it brought to the deviation of c over the features
    (arXiv:2207.12598, arXiv:2305.08891 §3.4). Shapes: (..., d) -> (..., d)."""
    g = torch.lerp(unconditional, conditional, guidance)
    spread, wanted = (x.std(-1, correction=0, keepdim=True) for x in (g, conditional))
    factor = torch.where(spread == 0, 1.0, wanted / spread)
    return g * torch.lerp(torch.ones_like(factor), factor, rescale)
