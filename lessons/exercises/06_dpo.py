"""Lesson 6: direct preference optimisation (arXiv:2305.18290, equation 7).

Log-probabilities of whole answers under the policy and under the reference it started from, for pairs of which one answer was
preferred:

    l = mean of -ln sigmoid(beta h),    h = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)

    (B,) each -> ();    vjp: dy () -> dpolicy_chosen, dpolicy_rejected (B,); the reference is constant

It must not overflow where a pair is far wrong.
"""

import numpy as np


def dpo(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=0.1):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dpolicy_chosen, dpolicy_rejected

    return loss, vjp
