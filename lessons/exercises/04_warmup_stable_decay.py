"""Lesson 4: warm-up, long at the peak, a short cool-down (arXiv:2404.06395, section 4).

    step < warmup:           peak (step + 1) / warmup
    then:                    peak
    the last n steps:        peak (final + (1 - final) (1 - sqrt(t))),    n = round(cooldown * steps), but the cool-down
                             never begins before the warm-up has ended;    t from 0 to 1 over it
    step >= steps:           final * peak

From a checkpoint before the cool-down, one run becomes many.
"""

import math


def warmup_stable_decay(step, steps, peak, warmup=0, final=0.0, cooldown=0.2):
    raise NotImplementedError
