"""How the learning rate changes over a run."""

import math


def warmup_cosine(step, steps, peak, warmup=0, final=0.0):
    """Linear warm-up, then half a cosine (arXiv:1608.03983, eq. 5).

        step < warmup:  peak (step + 1) / warmup
        else:           final peak + (1 - final) peak (1 + cos(pi t)) / 2,    t = (step - warmup) / (steps - warmup)

    Steps count from 0; from ``steps`` on the rate stays at final * peak. Floats.
    """
    if step >= steps:
        return final * peak
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / (steps - warmup)
    return final * peak + (1 - final) * peak * 0.5 * (1 + math.cos(math.pi * t))
