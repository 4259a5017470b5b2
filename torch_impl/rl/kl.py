"""The distance between policy and reference, token by token, and the coefficient that keeps it where it should be."""

import torch

from numpy_ref.errors import UserError


def kl_estimate(logprobs, reference, kind="k3", limit=10.0):
    """Schulman's estimators (2020) of KL(policy || reference) at tokens drawn from the policy, in nats; with
    d = logprobs - reference:  k1 = d,  k2 = d^2 / 2,  k3 = exp(-d) - 1 + d.

    k3 is continued by its tangent where -d is above ``limit``, so that neither it nor its gradient overflows, and the
    gradient does not vanish there. As losses: k2 has the gradient of KL(policy || reference), k3 that of the reverse,
    k1 none on average. Shapes: (...), (...) -> (...).
    """
    d = logprobs - reference
    if kind == "k1":
        return d
    if kind == "k2":
        return 0.5 * d.square()
    if kind != "k3":
        raise UserError(f'kind={kind!r} is unknown; choose "k1", "k2" or "k3"')
    fixed = d.detach()
    near = fixed.clamp(min=-limit)
    slope = -torch.expm1(-near)  # autograd would take exp from 1, and lose the digits of a small d
    return near - slope + slope * (fixed - near) + slope * (d - fixed)


def adapted_coefficient(coefficient, kl, target, sequences, horizon=10000):
    """Ziegler et al.'s controller (arXiv:1909.08593 eq. 4): proportional in kl / target - 1, held within a fifth.

    kl and target are nats a sequence, not a token; horizon is in sequences.
    """
    if not target > 0:
        raise UserError(f"target={target} is no KL target; give nats a sequence, above 0")
    error = max(-0.2, min(0.2, kl / target - 1.0))
    return coefficient * (1.0 + error * sequences / horizon)
