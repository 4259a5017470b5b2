"""The objectives of group-relative learning: who clips what, and what is averaged over what."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.ppo.objective import GUARD, policy_loss
from numpy_ref.rl.masked import aggregate, loss_denominator

# How each objective averages the losses of tokens (see ``rl.masked.aggregate``).
BY = {"grpo": "sequence", "dapo": "token", "dr_grpo": "length", "gspo": "sequence", "cispo": "token"}


def group_loss(
    logprobs, old_logprobs, advantages, mask, kind="dapo", clip_low=0.2, clip_high=0.2, dual_clip=0.0, denominator=None
):
    """The objective of that name, negated.

        grpo       clipped ratio of each token, mean of each completion, mean of those        arXiv:2402.03300, eq. 3
        dapo       the same, mean over all tokens: long answers weigh as much as they say     arXiv:2503.14476, eq. 8
        dr_grpo    the same, sum over a fixed length: no reward for being wrong at length     arXiv:2503.20783
        gspo       ``gspo_loss``: one ratio for a completion
        cispo      ``cispo_loss``: no token is left out; clip_high is the largest weight less 1

    Shapes: logprobs, old_logprobs, mask bool (B, T), advantages (B, 1) -> ();  vjp: dy -> dlogprobs (B, T).
    ``denominator``: of the whole step, from ``group_denominator``. Raises UserError for another kind.
    """
    if kind not in BY:
        raise UserError(f"kind={kind!r} is not allowed; objectives are {', '.join(BY)}")
    if kind == "gspo":
        return gspo_loss(logprobs, old_logprobs, advantages, mask, clip_low, clip_high, denominator)
    if kind == "cispo":
        return cispo_loss(logprobs, old_logprobs, advantages, mask, 1.0 + clip_high, denominator)
    settings = clip_low, clip_high, dual_clip, BY[kind]
    return policy_loss(logprobs, old_logprobs, advantages, mask, *settings, denominator=denominator)


def group_denominator(mask, kind="dapo", length=None):
    """What ``group_loss`` divides by; ``length``: tokens of the longest completion that may be."""
    if kind not in BY:
        raise UserError(f"kind={kind!r} is not allowed; objectives are {', '.join(BY)}")
    return loss_denominator(mask, BY[kind], length)


def gspo_loss(logprobs, old_logprobs, advantages, mask, clip_low=3e-4, clip_high=4e-4, denominator=None):
    """Group sequence policy optimisation (arXiv:2507.18071, eq. 5 and 7): the ratio is that of whole completions,

        s = exp(mean of (logprobs - old_logprobs) over the completion)    l = max(-A s, -A clip(s, 1 - clip_low, 1 + clip_high))

    and is clipped far earlier, since a mean of many log-ratios moves little. The losses are averaged over completions.

    Shapes: logprobs, old_logprobs, mask bool (B, T), advantages (B, 1) -> ();  vjp: dy -> dlogprobs (B, T).

    Backward: ds/dlogprobs_t = s / n for each of the n tokens, so each has -A s / n, or 0 where it is clipped.
    """
    tokens = np.maximum(1, np.sum(mask, axis=-1, keepdims=True)).astype(logprobs.real.dtype)
    log_ratio = np.sum(np.where(mask, logprobs - old_logprobs, 0.0), axis=-1, keepdims=True) / tokens
    inside = np.abs(log_ratio.real) <= GUARD
    ratio = np.exp(np.where(inside, log_ratio, np.copysign(GUARD, log_ratio.real)))
    there = np.any(mask, axis=-1, keepdims=True)
    advantages = np.where(there, advantages, 0.0).astype(logprobs.real.dtype)
    plain, bound = -advantages * ratio, -advantages * np.clip(ratio.real, 1.0 - clip_low, 1.0 + clip_high)
    counts = np.where(advantages > 0, ratio.real <= 1.0 + clip_high, ratio.real >= 1.0 - clip_low)
    divisor = loss_denominator(mask, "sequence") if denominator is None else denominator

    def vjp(dy):
        return np.where(mask, np.where(counts & inside, plain, 0.0) / tokens, 0.0) * (dy / divisor)

    return np.sum(np.where(counts, plain, bound)) / divisor, vjp


def cispo_loss(logprobs, old_logprobs, advantages, mask, largest=5.0, denominator=None):
    """Clipped importance sampling weights (arXiv:2506.13585, eq. 4 and 5): REINFORCE, each token weighted by its ratio,

        l = -w A logprobs,    w = min(r, largest), taken for a constant

    so that a token far from the old policy still learns, only not without bound. Averaged over tokens.

    Shapes: logprobs, old_logprobs, mask bool (B, T), advantages (B, T) or (B, 1) -> ();  vjp: dy -> dlogprobs (B, T).

    Backward: -w A, by definition: nothing flows through the weight.
    """
    log_ratio = np.where(mask, logprobs.real - old_logprobs, 0.0)
    weight = np.minimum(np.exp(np.minimum(log_ratio, GUARD)), largest)
    slope = -weight * np.where(mask, advantages, 0.0).astype(weight.dtype)
    loss, mean_vjp = aggregate(slope * np.where(mask, logprobs, 0.0), mask, "token", denominator)
    return loss, lambda dy: mean_vjp(dy) * slope
