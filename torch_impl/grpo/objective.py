"""Objectives over groups of completions."""

import torch

from numpy_ref.errors import UserError
from torch_impl.ppo.objective import GUARD, policy_loss
from torch_impl.rl.masked import aggregate, loss_denominator

# What aggregate goes by.
BY = {"grpo": "sequence", "dapo": "token", "dr_grpo": "length", "gspo": "sequence", "cispo": "token"}


def group_loss(
    logprobs, old_logprobs, advantages, mask, kind="dapo", clip_low=0.2, clip_high=0.2, dual_clip=0.0, denominator=None
):
    """The loss by name: "grpo" (arXiv:2402.03300 eq. 3), "dapo" (arXiv:2503.14476 eq. 8), "dr_grpo" (arXiv:2503.20783),
    all three PPO's clipped surrogate under different averages; "gspo" and "cispo", see below (cispo's largest weight
    is 1 + clip_high). Shapes: (B, T), advantages (B, 1) -> ().
    """
    by = _by(kind)
    if kind == "gspo":
        return gspo_loss(logprobs, old_logprobs, advantages, mask, clip_low, clip_high, denominator)
    if kind == "cispo":
        return cispo_loss(logprobs, old_logprobs, advantages, mask, 1 + clip_high, denominator)
    return policy_loss(logprobs, old_logprobs, advantages, mask, clip_low, clip_high, dual_clip, by, denominator)


def group_denominator(mask, kind="dapo", length=None):
    """The divisor of ``group_loss`` for a whole step, a tensor (). ``length``: of the longest possible completion."""
    return loss_denominator(mask, _by(kind), length)


def gspo_loss(logprobs, old_logprobs, advantages, mask, clip_low=3e-4, clip_high=4e-4, denominator=None):
    """The clipped surrogate of whole sequences, whose ratio is the geometric mean of their tokens' (arXiv:2507.18071 eq. 7).

    Shapes: (B, T), advantages (B, 1) -> (), the mean over sequences.
    """
    tokens = mask.sum(-1).clamp(min=1)
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0).sum(-1) / tokens
    ratio = log_ratio.clamp(-GUARD, GUARD).exp()
    advantages = torch.where(mask.any(-1), advantages[:, 0], 0)
    held = ratio.detach().clamp(1 - clip_low, 1 + clip_high)
    clipped = torch.where(advantages > 0, ratio > held, ratio < held)
    divisor = loss_denominator(mask, "sequence") if denominator is None else denominator
    return -(advantages * torch.where(clipped, held, ratio)).sum() / divisor


def cispo_loss(logprobs, old_logprobs, advantages, mask, largest=5.0, denominator=None):
    """-min(r, largest) A ln policy, with no gradient through the weight (arXiv:2506.13585 eq. 4).

    Shapes: (B, T), advantages (B, T) or (B, 1) -> (), the mean over tokens.
    """
    weight = (logprobs.detach() - old_logprobs).clamp(max=GUARD).exp().clamp(max=largest)
    slope = torch.where(mask, -weight * advantages, 0)
    return aggregate(slope * torch.where(mask, logprobs, 0), mask, "token", denominator)


def _by(kind):
    if kind not in BY:
        raise UserError(f"kind={kind!r} is unknown; choose one of {', '.join(BY)}")
    return BY[kind]
