"""Lesson 4: an average of the weights, often a better model than the weights themselves.

    a = d a + (1 - d) w,    d = min(decay, (1 + step) / (10 + step))

    averages, params: dicts of arrays; step: from 0 -> new dict

Nothing is changed in place.
"""


def ema(averages, params, decay, step):
    raise NotImplementedError
