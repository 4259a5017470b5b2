"""Lesson 8: generalised advantage estimation (arXiv:1506.02438, equation 16).

    delta_t = r_t + gamma V_next - V_t        A_t = delta_t + gamma lam A_next        R_t = A_t + V_t

"next" is the next token that counts: hidden ones are passed over. After the last one V is 0, for there the text is over; ``final``
(B,) is the critic's value of a text that was only cut off.

    rewards, values, mask bool (B, T), final (B,) or None -> advantages, returns (B, T), 0 where the mask hides

What rewards and values hold behind the mask may be anything, NaN too.
"""

import numpy as np


def gae(rewards, values, mask, gamma=1.0, lam=0.95, final=None):
    raise NotImplementedError
