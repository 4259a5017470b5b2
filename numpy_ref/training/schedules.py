"""The learning rate over a run."""

import math


def warmup_cosine(step, steps, peak, warmup=0, final=0.0):
    """Linear warm-up, then a cosine from ``peak`` to ``final * peak`` (arXiv:1608.03983, eq. 5, without restarts).

        step < warmup:   peak (step + 1) / warmup
        after:           peak (final + (1 - final) (1 + cos(pi t)) / 2),    t = (step - warmup) / (steps - warmup)

    step counts from 0, so the first step already moves; from ``steps`` on the rate stays at final * peak.
    """
    if step >= steps:
        return final * peak
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / (steps - warmup)
    return peak * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * t)))
