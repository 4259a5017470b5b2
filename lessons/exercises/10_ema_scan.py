"""Lesson 10: a recurrence (H-Net, arXiv:2507.07955): where a border was doubtful, a chunk keeps much of the one before.

    y_k = p_k z_k + (1 - p_k) y_(k-1),    y_(-1) = 0

    z (B, K, d), p (B, K) -> y (B, K, d);    vjp: dy -> dz (B, K, d), dp (B, K)

The backward pass of a recurrence is a recurrence from the end.
"""

import numpy as np


def ema_scan(z, p):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dz, dp

    return y, vjp
