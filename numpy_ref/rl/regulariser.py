"""What keeps a policy near its reference and undecided: two terms that any objective may have beside its own."""

import numpy as np

from numpy_ref.rl.kl import kl_estimate
from numpy_ref.rl.masked import aggregate

GUARD = 20.0  # nats, as in ``ppo.objective``


def regulariser(
    logprobs, entropy, old_logprobs, reference, mask, kl=0.0, kind="k2", weighted=False, bonus=0.0, by="token",
    denominator=None,
):  # fmt: skip
    """kl times the distance from the reference, less ``bonus`` times the entropy, both averaged by ``aggregate``.

    weighted: each token's estimate is multiplied by r = exp(logprobs - old_logprobs). The tokens were drawn by the old
    policy, and E_old[r k] = E_policy[k]: with k1 or k3 that is KL(policy || reference) itself, as a function of the
    policy, so that its gradient is right too, on the first step (where r = 1, but dr is not 0) as on later ones.

    Shapes: logprobs, entropy, old_logprobs, mask bool (B, T), reference (B, T) or None where kl is 0 -> ();
    vjp: dy -> dlogprobs, dentropy (B, T).

    Backward: d(r k)/dlogprobs = r (k + dk/dlogprobs), as dr/dlogprobs = r; beyond 20 nats r is a constant.
    """
    loss, entropy_vjp = aggregate(entropy, mask, by, denominator)
    loss, kl_vjps = -bonus * loss, None
    if kl:
        shown = np.where(mask, logprobs, 0.0)
        estimate, estimate_vjp = kl_estimate(shown, np.where(mask, reference, 0.0), kind)
        ratio, inside = np.ones_like(estimate), False
        if weighted:
            log_ratio = shown - np.where(mask, old_logprobs, 0.0)
            inside = np.abs(log_ratio.real) <= GUARD
            ratio = np.exp(np.where(inside, log_ratio, np.copysign(GUARD, log_ratio.real)))
        distance, mean_vjp = aggregate(ratio * estimate, mask, by, denominator)
        loss, kl_vjps = loss + kl * distance, (estimate, estimate_vjp, ratio, inside, mean_vjp)

    def vjp(dy):
        dentropy = entropy_vjp(-bonus * dy)
        if kl_vjps is None:
            return np.zeros_like(logprobs), dentropy
        estimate, estimate_vjp, ratio, inside, mean_vjp = kl_vjps
        dterm = mean_vjp(kl * dy)
        return estimate_vjp(dterm * ratio) + dterm * np.where(inside, ratio * estimate, 0.0), dentropy

    return loss, vjp
