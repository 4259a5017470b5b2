"""Token rewards and generalised advantage estimation, without a loop over time."""

import torch


def token_rewards(scores, kl, mask, coefficient):
    """-coefficient kl at every token, plus the score at each row's last unmasked one (arXiv:1909.08593 eq. 2), which is
    the end token where there is one. Shapes: scores (B,), kl (B, T), mask (B, T) bool -> (B, T), 0 where masked."""
    rewards = torch.where(mask, -coefficient * kl, 0)
    position = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, position, -1).amax(-1, keepdim=True)
    return torch.where(mask & (position == last), rewards + scores[:, None], rewards)


def gae(rewards, values, mask, gamma=1.0, lam=0.95, final=None):
    """Advantages and returns (arXiv:1506.02438 eq. 16; returns: advantages + values, not whitened).

        A_t = sum_k (gamma lam)^k delta_(t+k),    delta_t = r_t + gamma V_(t+1) - V_t

    over the unmasked tokens alone: they are moved together, all sums are one product with a triangular matrix, and the
    result is moved back. V after the last token is 0, or ``final`` (B,) for texts that were cut off.

    Shapes: rewards, values (B, T), mask (B, T) bool -> two of (B, T), 0 where masked.
    """
    length = mask.shape[1]
    order = torch.argsort(~mask, dim=1, stable=True)
    there = mask.gather(1, order)
    rewards = torch.where(there, rewards.gather(1, order), 0)
    values = torch.where(there, values.gather(1, order), 0)
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    if final is not None:
        last = there & ~torch.nn.functional.pad(there[:, 1:], (0, 1))
        following = torch.where(last, final[:, None], following)
    delta = torch.where(there, rewards + gamma * following - values, 0)
    place = torch.arange(length, device=mask.device)
    ahead = place[:, None] - place  # from column to row
    decay = torch.full((), gamma * lam, dtype=values.dtype, device=mask.device) ** ahead.clamp(min=0)
    advantages = torch.where(there, delta @ torch.where(ahead >= 0, decay, 0), 0)
    both = torch.stack((advantages, advantages + values))
    return tuple(torch.empty_like(both).scatter_(2, order.expand(2, -1, -1), both))
