"""What PPO minimises: a surrogate that pays for better tokens, and nothing for going too far at once; a critic's error."""

import numpy as np

from numpy_ref.rl.masked import aggregate

GUARD = 20.0  # nats: log-ratios beyond are taken for this, so that no ratio overflows


def policy_loss(
    logprobs,
    old_logprobs,
    advantages,
    mask,
    clip_low=0.2,
    clip_high=0.2,
    dual_clip=0.0,
    by="token",
    denominator=None,
):
    """The clipped surrogate (arXiv:1707.06347, eq. 7), negated.

        r = exp(logprobs - old_logprobs)        l = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high))

    ``clip_high`` above ``clip_low`` lets rare tokens rise (DAPO, arXiv:2503.14476, eq. 10). For A < 0 the surrogate has
    no bound: dual_clip c > 1 (0: none) holds l at -A c (arXiv:1912.09729, eq. 5). The losses of the tokens become one by
    ``aggregate``, which explains ``by`` and ``denominator``.

    Shapes: logprobs, old_logprobs, mask bool (B, T), advantages (B, T) or (B, 1) -> ();  vjp: dy -> dlogprobs (B, T).

    Backward: dr/dlogprobs = r, so a token has -A r where the first form counts, and 0 where it is clipped: moving it
    further would win nothing. At r = 1, in the first step, that is REINFORCE: -A.
    """
    ratio, inside = _ratio(logprobs, old_logprobs, mask)
    advantages = np.where(mask, advantages, 0.0).astype(logprobs.real.dtype)
    plain, bound = -advantages * ratio, -advantages * np.clip(ratio.real, 1.0 - clip_low, 1.0 + clip_high)
    counts = _moves(ratio, advantages, clip_low, clip_high)
    losses = np.where(counts, plain, bound)
    if dual_clip:
        most = -advantages * dual_clip
        held = (advantages < 0) & (losses.real > most)
        counts, losses = counts & ~held, np.where(held, most, losses)
    loss, mean_vjp = aggregate(losses, mask, by, denominator)

    def vjp(dy):
        return mean_vjp(dy) * np.where(counts & inside, plain, 0.0)

    return loss, vjp


def value_loss(values, old_values, returns, mask, clip=0.2, by="token", denominator=None):
    """Half the squared error of the critic, which may not leave its old value by more than ``clip`` (0: it may), as in
    OpenAI's PPO (the detail 9 of Huang et al. 2022, "The 37 implementation details of PPO").

        l = max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2) / 2

    Shapes: values, old_values, returns, mask bool (B, T) -> ();  vjp: dy -> dvalues (B, T).

    Backward: V - R where the first form is the larger; else 0, for V has left the interval and the second is a constant.
    """
    values = np.where(mask, values, 0.0)
    old_values, returns = np.where(mask, old_values, 0.0), np.where(mask, returns, 0.0)
    error = values - returns
    counts = np.ones(mask.shape, bool)
    losses = 0.5 * error * error
    if clip:
        moved = values.real - old_values
        held = old_values + np.clip(moved, -clip, clip) - returns
        counts = (np.abs(moved) <= clip) | (error.real * error.real >= held * held)
        losses = np.where(counts, losses, 0.5 * held * held)
    loss, mean_vjp = aggregate(losses, mask, by, denominator)

    def vjp(dy):
        return mean_vjp(dy) * np.where(counts, error, 0.0)

    return loss, vjp


def ratio_statistics(logprobs, old_logprobs, advantages, mask, clip_low=0.2, clip_high=0.2):
    """How far a step has gone from the policy that drew its tokens. All over the tokens that count:

        ratio_mean, ratio_max       of r; on average over its own draws r is 1
        clip_low, clip_high         share of tokens that the surrogate no longer moves down (A < 0), or up (A > 0)
        kl_old                      nats a token from the old policy: the mean of r - 1 - ln r, never negative (k3 of
                                    KL(old || new), whose tokens these are)

    -> dict of (). No vjp.
    """
    ratio, _ = _ratio(logprobs, old_logprobs, mask)
    advantages = np.where(mask, advantages, 0.0)
    count = max(1, int(np.sum(mask)))
    log_ratio = np.clip(np.where(mask, logprobs - old_logprobs, 0.0), -GUARD, GUARD)

    def share(condition):
        return np.sum(np.where(mask & condition, 1.0, 0.0).astype(ratio.dtype)) / count

    return {
        "ratio_mean": np.sum(np.where(mask, ratio, 0.0)) / count,
        "ratio_max": np.max(np.where(mask, ratio, 0.0), initial=0.0),
        "clip_low": share((ratio < 1.0 - clip_low) & (advantages < 0)),
        "clip_high": share((ratio > 1.0 + clip_high) & (advantages > 0)),
        "kl_old": np.sum(np.where(mask, np.expm1(log_ratio) - log_ratio, 0.0)) / count,
    }


def _moves(ratio, advantages, clip_low, clip_high):
    """Where the unclipped form is the larger loss, and so has a gradient."""
    return np.where(advantages > 0, ratio.real <= 1.0 + clip_high, ratio.real >= 1.0 - clip_low)


def _ratio(logprobs, old_logprobs, mask):
    """exp of the log-ratio, held within the guard, 1 where the mask hides; and whether it was within."""
    log_ratio = np.where(mask, logprobs - old_logprobs, 0.0)
    inside = np.abs(log_ratio.real) <= GUARD
    return np.exp(np.where(inside, log_ratio, np.copysign(GUARD, log_ratio.real))), inside
