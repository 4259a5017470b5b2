"""Sampling concepts from a denoiser: DDIM and classifier-free guidance."""

import math

import torch


def ddim_step(x, clean, level, next_level, noise_scale=1.0, eta=0.0, fresh=None):
    """x_{t-1} of DDIM for a model that predicts the clean vector (arXiv:2010.02502 eq. 12; eq. 16 for eta).

    noise_scale divides the noise (arXiv:2308.15321). Shapes: x, clean, fresh (..., d), levels numbers -> (..., d).
    """
    variance = eta * eta * (1 - next_level) / (1 - level) * (1 - level / next_level) if next_level > level else 0.0
    noise = math.sqrt(max(0, 1 - next_level - variance)) / (math.sqrt(1 - level) * noise_scale)  # what becomes of x
    y = noise * x + (math.sqrt(next_level) - noise * math.sqrt(level)) * clean
    return torch.add(y, fresh, alpha=math.sqrt(variance)) if variance else y


def guided(conditional, unconditional, guidance, rescale=0.0):
    """u + guidance (c - u), a share ``rescale`` of it brought to the deviation of c over the features
    (arXiv:2207.12598, arXiv:2305.08891 §3.4). Shapes: (..., d) -> (..., d)."""
    g = torch.lerp(unconditional, conditional, guidance)
    spread, wanted = (x.std(-1, correction=0, keepdim=True) for x in (g, conditional))
    factor = torch.where(spread == 0, 1.0, wanted / spread)
    return g * torch.lerp(torch.ones_like(factor), factor, rescale)
