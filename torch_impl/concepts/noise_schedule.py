"""The noise of a diffusion: how much at each step, and a vector with it."""

import math

import torch

from numpy_ref.errors import UserError

LARGEST_BETA = 0.999


def cosine_levels(steps, offset=0.008):
    """Products of 1 - beta of the cosine schedule (arXiv:2102.09672 eq. 17), beta at most 0.999: (steps,) float64."""
    if steps < 2:
        raise UserError(f"{steps} steps are too few for a schedule of noise; give at least 2")
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = torch.cos((t + offset).mul_(math.pi / 2 / (1 + offset))).square_()
    return (f[1:] / f[:-1]).clamp_(min=1 - LARGEST_BETA).cumprod(0)


def zero_terminal_snr(levels):
    """No signal at the last step: square roots of the levels shifted to end in 0, scaled to begin where they did
    (arXiv:2305.08891 alg. 1). Shapes: (T,) -> (T,)."""
    roots = levels.sqrt()
    first, last = roots[0], roots[-1]
    return (roots - last).mul(first / (first - last)).square()


def noised(x, noise, levels):
    """sqrt(level) x + sqrt(1 - level) noise. Shapes: x, noise (..., d), levels (...) -> (..., d)."""
    return torch.addcmul((1 - levels).sqrt()[..., None] * noise, levels.sqrt()[..., None], x)


def trailing_steps(steps, samples):
    """The steps that a sampler visits: spaced evenly, the last one first (arXiv:2305.08891 §3.3). -> (samples,) int64."""
    if not 1 <= samples <= steps:
        raise UserError(f"{samples} sampling steps can't be chosen from {steps} steps of noise; give 1 to {steps}")
    left = torch.arange(samples, 0, -1)
    return torch.div(2 * steps * left + samples, 2 * samples, rounding_mode="floor") - 1
