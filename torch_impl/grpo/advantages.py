"""Group-relative advantages."""

import torch

from numpy_ref.errors import UserError


def group_advantages(rewards, kind="deviation", valid=None, eps=1e-4):
    """Rewards relative to their group: over its deviation with n - 1 ("deviation": GRPO, arXiv:2402.03300), from its
    mean ("mean": Dr. GRPO, arXiv:2503.20783), or from the mean of the others ("rloo": arXiv:2402.14740).

    Exactly 0 for invalid completions and in groups whose valid rewards are all equal.
    Shapes: rewards (P, G), valid (P, G) bool -> (P, G). UserError for groups of one, except for "mean".
    """
    if kind not in ("deviation", "mean", "rloo"):
        raise UserError(f'kind={kind!r} is unknown; choose "deviation", "mean" or "rloo"')
    if rewards.shape[1] == 1 and kind != "mean":
        raise UserError(f'a group of 1 has nothing to compare with; take at least 2 completions a prompt, or "mean"')
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    rewards = torch.where(valid, rewards, 0)
    count = valid.sum(-1, keepdim=True)
    centred = torch.where(valid, rewards - rewards.sum(-1, keepdim=True) / count.clamp(min=1), 0)
    others = (count - 1).clamp(min=1)
    if kind == "deviation":
        centred = centred / ((centred.square().sum(-1, keepdim=True) / others).sqrt() + eps)
    elif kind == "rloo":
        centred = centred * count / others
    return torch.where(informative(rewards, valid)[:, None], centred, 0)


def informative(rewards, valid=None):
    """Groups with at least two different valid rewards. Shapes: (P, G) -> (P,) bool."""
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    return rewards.masked_fill(~valid, -torch.inf).amax(-1) > rewards.masked_fill(~valid, torch.inf).amin(-1)
