"""Lesson 7: learning from preferences (Bradley and Terry, 1952).

The chance that the chosen answer beats the rejected one is sigmoid(z), z = chosen - rejected - margin. The loss is the mean of
-ln sigmoid(z) over the pairs.

    chosen, rejected (B,) -> ();    vjp: dy () -> dchosen, drejected (B,)

Rewards of -1000 and 1000 must not overflow, either way round.
"""

import numpy as np


def bradley_terry(chosen, rejected, margin=0.0):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dchosen, drejected

    return loss, vjp
