"""How far a policy has moved from a reference, estimated from the tokens that it chose, and the price of that."""

import numpy as np

from numpy_ref.errors import UserError


def kl_estimate(logprobs, reference, kind="k3", limit=10.0):
    """Estimates of KL(policy || reference) in nats, one for each token that the policy drew (Schulman 2020, "Approximating
    KL divergence").

        d = ln policy - ln reference
        k1 = d                          right on average; single ones may be negative
        k2 = d^2 / 2                    a little too large or small; never negative
        k3 = exp(-d) - 1 + d            right on average, and never negative

    That holds for the values. In a loss it is the gradient that counts, and there the averages over the policy are

        k1: 0        k2: gradient of KL(policy || reference)        k3: gradient of KL(reference || policy)

    so k1 as a loss is noise, and k2 is the one that does what its name promises. Where the tokens were drawn by an older
    policy, or for an unbiased gradient of any of them, multiply by the ratio (arXiv:2512.02556, section 3.1).

    Beyond -d = ``limit`` nats k3 goes on as its tangent: value and gradient stay finite, and a token that the policy has
    all but forgotten is still pulled back. A clamp would give it no gradient at all.

    Shapes: logprobs, reference (...) -> (...);  vjp: dy -> dlogprobs (...); the reference is frozen.
    Raises UserError for another kind.

    Backward: dk1 = 1, dk2 = d, dk3 = 1 - exp(-d), which beyond the limit is 1 - exp(limit).
    """
    d = logprobs - reference
    if kind == "k1":
        value, slope = d, np.ones_like(d)
    elif kind == "k2":
        value, slope = 0.5 * d * d, d
    elif kind == "k3":
        far = d.real < -limit
        near = np.where(far, -limit, d)
        slope = -np.expm1(-near)
        value = np.expm1(-near) + near + np.where(far, slope * (d + limit), 0.0)
    else:
        raise UserError(f"kind={kind!r} is not allowed; estimators of the KL divergence are k1, k2 and k3")
    return value, lambda dy: dy * slope


def adapted_coefficient(coefficient, kl, target, sequences, horizon=10000):
    """The price of distance for the next iteration, so that the distance comes to its target (arXiv:1909.08593, eq. 4).

        e = clip(kl / target - 1, -0.2, 0.2)        coefficient <- coefficient (1 + e sequences / horizon)

    Units: ``kl`` and ``target`` in nats a sequence, that is summed over its tokens (the paper's target is 6), measured
    over the iteration's ``sequences``; ``horizon`` in sequences. A mean over tokens would be smaller by the length.
    Raises UserError for a target that is not above 0. Numbers in, number out.
    """
    if not target > 0:
        raise UserError(f"target={target} is not allowed; the KL target is a number of nats a sequence, above 0")
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * sequences / horizon)
