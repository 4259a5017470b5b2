"""Lesson 8: how far has the policy moved from the reference? Three estimates (Schulman 2020), one for each token that it drew.

    d = ln policy - ln reference        k1 = d        k2 = d^2 / 2        k3 = exp(-d) - 1 + d

    logprobs, reference (...) -> (...);    vjp: dy (...) -> dlogprobs (...); the reference is frozen

Which of them can be negative? Which has the gradient of the KL divergence on average?
"""

import numpy as np


def kl_estimate(logprobs, reference, kind="k3"):
    raise NotImplementedError  # value

    def vjp(dy):
        raise NotImplementedError  # dlogprobs

    return value, vjp
