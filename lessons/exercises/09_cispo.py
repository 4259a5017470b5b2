"""Lesson 9: no token left out (CISPO, arXiv:2506.13585): REINFORCE, each token weighted by a ratio that is held, not cut.

    l = -w A logprobs,    w = min(exp(logprobs - old_logprobs), largest), taken for a constant

and its mean over the tokens that count (divided by 1 where none does).

    logprobs, old_logprobs, mask bool (B, T), advantages (B, 1) -> ();    vjp: dy () -> dlogprobs (B, T)
"""

import numpy as np


def cispo_loss(logprobs, old_logprobs, advantages, mask, largest=5.0):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dlogprobs

    return loss, vjp
