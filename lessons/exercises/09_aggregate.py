"""Lesson 9: one number from the losses of all tokens. The choice decides whether long answers count more than short ones.

    "token"       sum of x over the tokens that count / how many they are
    "sequence"    mean over the rows of each row's own mean (rows without any token count as nothing)
    "length"      sum of x / (rows times columns)

Micro-batches share one ``denominator``, that of their whole step: where it is given, divide by it instead.

    x (B, T), mask bool (B, T) -> ();    vjp: dy () -> dx (B, T), 0 where the mask hides

What the mask hides may be anything, NaN too.
"""

import numpy as np

from numpy_ref.rl.masked import loss_denominator


def aggregate(x, mask, by="token", denominator=None):
    raise NotImplementedError  # value

    def vjp(dy):
        raise NotImplementedError  # dx

    return value, vjp
