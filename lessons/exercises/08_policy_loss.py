"""Lesson 8: PPO's clipped surrogate (arXiv:1707.06347, equation 7), negated.

    r = exp(logprobs - old_logprobs)        l = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high))

and its mean over the tokens that count (divided by 1 where none does).

    logprobs, old_logprobs, advantages, mask bool (B, T) -> ();    vjp: dy () -> dlogprobs (B, T)
"""

import numpy as np


def policy_loss(logprobs, old_logprobs, advantages, mask, clip_low=0.2, clip_high=0.2):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dlogprobs

    return loss, vjp
