"""How the learning rate changes over a run. Steps count from 0; rates are floats.

Every schedule warms up linearly, peak (step + 1) / warmup, and falls from ``peak`` to ``final * peak``, where it stays
from step ``steps`` on, unless it says otherwise.
"""

import math


def learning_rate(step, train_config):
    """The rate of a step under the config's schedule."""
    c = train_config
    if c.schedule == "inverse_sqrt":
        return warmup_inverse_sqrt(step, c.lr, c.warmup, c.final_lr)
    schedule = {"cosine": warmup_cosine, "linear": warmup_linear, "wsd": warmup_stable_decay}[c.schedule]
    more = {"cooldown": c.cooldown} if c.schedule == "wsd" else {}
    return schedule(step, c.steps, c.lr, c.warmup, c.final_lr, **more)


def warmup_cosine(step, steps, peak, warmup=0, final=0.0):
    """Linear warm-up, then half a cosine (arXiv:1608.03983, eq. 5).

        step < warmup:  peak (step + 1) / warmup
        else:           final peak + (1 - final) peak (1 + cos(pi t)) / 2,    t = (step - warmup) / (steps - warmup)
    """
    if step >= steps:
        return final * peak
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / (steps - warmup)
    return final * peak + (1 - final) * peak * 0.5 * (1 + math.cos(math.pi * t))


def warmup_linear(step, steps, peak, warmup=0, final=0.0):
    """Linear warm-up, then a line (arXiv:1810.04805, A.2): (final t + (1 - t)) peak, t as for the cosine."""
    if step >= steps:
        return final * peak
    if step < warmup:
        return peak * (step + 1) / warmup
    left = (steps - step) / (steps - warmup)
    return final * peak + (1 - final) * peak * left


def warmup_inverse_sqrt(step, peak, warmup=0, final=0.0):
    """Noam's schedule ("Attention Is All You Need" eq. 3) by its peak: after the warm-up peak sqrt(warmup / (step + 1)),
    not below final * peak; it has no end. Without a warm-up it falls from the first step on."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return max(final * peak, peak * (max(1, warmup) / (step + 1)) ** 0.5)


def warmup_stable_decay(step, steps, peak, warmup=0, final=0.0, cooldown=0.2):
    """Warm-up, plateau, cool-down over the last round(cooldown * steps) steps (MiniCPM, arXiv:2404.06395 §4), which
    falls with 1 - sqrt(t) (arXiv:2405.18392 §3). A warm-up that reaches into the cool-down shortens it."""
    if step >= steps:
        return final * peak
    if step < warmup:
        return peak * (step + 1) / warmup
    length = min(round(cooldown * steps), steps - warmup)
    past = step - (steps - length)
    if past <= 0:
        return peak
    return final * peak + (1 - final) * peak * (1 - (past / length) ** 0.5)
