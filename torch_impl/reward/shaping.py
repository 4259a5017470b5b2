"""Rewards on their way to a policy. No gradients pass through here."""

import math

import torch
import torch.nn.functional as F

NO_MOMENTS = {"count": 0, "mean": 0.0, "squares": 0.0}


def update_moments(moments, rewards):
    """Running count, mean and squared deviations, merged with those of a batch (Chan, Golub and LeVeque 1979).

    Shapes: rewards (B,) -> {"count", "mean", "squares"}, Python numbers computed in float64. From ``NO_MOMENTS`` on.
    """
    if not rewards.numel():
        return dict(moments)
    batch = rewards.detach().double()
    average = batch.mean()
    mean, own = torch.stack((average, (batch - average).square().sum())).tolist()  # one wait for the device
    before, more = moments["count"], rewards.numel()
    count, apart = before + more, mean - moments["mean"]
    squares = moments["squares"] + own + apart * apart * before * more / count
    return {"count": count, "mean": moments["mean"] + apart * more / count, "squares": squares}


def normalise(rewards, moments, centre=True, eps=1e-8):
    """(r - mean) / (standard deviation + eps) with the moments of other rewards; the deviation counts as 1 until two of
    them are known. Shapes: (...) -> (...)."""
    if centre:
        rewards = rewards - moments["mean"]
    if moments["count"] < 2:
        return rewards * 1.0
    return rewards / (math.sqrt(moments["squares"] / moments["count"]) + eps)


def clip_rewards(rewards, limit):
    """Rewards cut at +-limit. Shapes: (...) -> (...)."""
    return rewards.clamp(-limit, limit)


def length_penalty(lengths, each, free=0):
    """-each * max(0, length - free). Shapes: lengths (B,) integers -> (B,) float64."""
    return -each * F.relu(lengths - free).double()


def missing_end_penalty(rewards, ended, penalty=1.0, replace=False):
    """Where an answer was cut off: the reward less the penalty, or -penalty in its place. Shapes: (B,), bool (B,) -> (B,)."""
    return torch.where(ended, rewards, torch.full_like(rewards, -penalty) if replace else rewards - penalty)


def soft_overlong_penalty(lengths, limit, buffer, factor=1.0):
    """DAPO's soft punishment (arXiv:2503.14476 eq. 13): from 0 at limit - buffer tokens down to -factor at the limit and
    beyond. Shapes: lengths (B,) integers -> (B,) float64."""
    return -factor * ((lengths.double() - (limit - buffer)) / buffer).clamp(0, 1)


def potential_shaping(potentials, mask, gamma=1.0):
    """gamma phi(next state) - phi(state) (Ng, Harada and Russell 1999); the state after the last token has potential 0.

    Shapes: potentials (B, T), mask bool (B, T), True on the answer's tokens -> (B, T), 0 elsewhere.
    """
    here = potentials.masked_fill(~mask, 0)
    return (gamma * F.pad(here[:, 1:], (0, 1)) - here).masked_fill(~mask, 0)


def mixture(rewards, weights, each_normalised=False, eps=1e-8):
    """Weighted sum of rewards; each in its own standard deviations first, where asked (arXiv:2601.05242).

    Shapes: rewards (K, B), weights (K,) -> (B,).
    """
    if each_normalised:
        spread, mean = torch.std_mean(rewards, 1, correction=0, keepdim=True)
        rewards = (rewards - mean) / (spread + eps)
    return (weights[:, None] * rewards).sum(0)
