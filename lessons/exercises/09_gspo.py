"""Lesson 9: one ratio for a whole answer (GSPO, arXiv:2507.18071).

    s = exp(mean over the answer's tokens of logprobs - old_logprobs)
    l = mean over the answers of max(-A s, -A clip(s, 1 - clip_low, 1 + clip_high))

    logprobs, old_logprobs, mask bool (B, T), advantages (B, 1) -> ();    vjp: dy () -> dlogprobs (B, T)

Rows without any token count as nothing.
"""

import numpy as np


def gspo_loss(logprobs, old_logprobs, advantages, mask, clip_low=3e-4, clip_high=4e-4):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dlogprobs

    return loss, vjp
