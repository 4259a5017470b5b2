"""The learning rate over a run: a linear warm-up, then one of several ways down."""

import math


def learning_rate(step, train_config):
    """The rate of a step, counted from 0, under the schedule that the config names."""
    c = train_config
    if c.schedule == "linear":
        return warmup_linear(step, c.steps, c.lr, c.warmup, c.final_lr)
    if c.schedule == "inverse_sqrt":
        return warmup_inverse_sqrt(step, c.lr, c.warmup, c.final_lr)
    if c.schedule == "wsd":
        return warmup_stable_decay(step, c.steps, c.lr, c.warmup, c.final_lr, c.cooldown)
    return warmup_cosine(step, c.steps, c.lr, c.warmup, c.final_lr)


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


def warmup_linear(step, steps, peak, warmup=0, final=0.0):
    """The same with a line in the cosine's place (arXiv:1810.04805, appendix A.2).

        after the warm-up:   peak (final + (1 - final) (1 - t))
    """
    if step >= steps:
        return final * peak
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / (steps - warmup)
    return peak * (final + (1.0 - final) * (1.0 - t))


def warmup_inverse_sqrt(step, peak, warmup=0, final=0.0):
    """Linear warm-up, then a fall with the root of the number of steps (arXiv:1706.03762, eq. 3, scaled to its peak).

        step < warmup:   peak (step + 1) / warmup
        after:           peak max(final, sqrt(max(warmup, 1) / (step + 1)))

    It does not know how long the run is, so a run can always go on.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * max(final, math.sqrt(max(warmup, 1) / (step + 1)))


def warmup_stable_decay(step, steps, peak, warmup=0, final=0.0, cooldown=0.2):
    """Warm-up, long at the peak, a short cool-down (arXiv:2404.06395, section 4; its shape: arXiv:2405.18392).

        step < warmup:          peak (step + 1) / warmup
        step < steps - n:       peak,    n = round(cooldown * steps), and never more than is left after the warm-up
        after:                  peak (final + (1 - final) (1 - sqrt(t))),    t = (step - (steps - n)) / n

    Only the cool-down depends on the length of the run: from a checkpoint before it, one run becomes many.
    """
    if step >= steps:
        return final * peak
    if step < warmup:
        return peak * (step + 1) / warmup
    start = max(warmup, steps - round(cooldown * steps))
    if step < start:
        return peak
    t = (step - start) / (steps - start)
    return peak * (final + (1.0 - final) * (1.0 - math.sqrt(t)))
