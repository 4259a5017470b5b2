"""Averages under masks. ``torch.where`` throughout: NaN times 0 would be NaN."""

import torch

from numpy_ref.errors import UserError


def aggregate(x, mask, by="token", denominator=None):
    """The losses of all tokens as one: their mean (by "token": DAPO, arXiv:2503.14476 eq. 8), the mean of the rows'
    means ("sequence": GRPO, arXiv:2402.03300 eq. 3), or their sum over rows times columns ("length": Dr. GRPO,
    arXiv:2503.20783). ``denominator``: of the whole step where x is a part of it, from ``loss_denominator``.

    Shapes: x (B, T), mask (B, T) bool -> (). Hidden entries have no gradient.
    """
    divisor = loss_denominator(mask, by) if denominator is None else denominator
    x = torch.where(mask, x, 0)
    if by == "sequence":
        x = x.sum(-1) / mask.sum(-1).clamp(min=1)
    return x.sum() / divisor


def loss_denominator(mask, by="token", length=None):
    """The divisor of ``aggregate`` for the whole step, at least 1, as a tensor (): nobody waits for the device.

    Shapes: mask (B, T) bool -> () int64. ``length`` stands for T if given.
    """
    if by == "token":
        return mask.sum().clamp(min=1)
    if by == "sequence":
        return mask.any(-1).sum().clamp(min=1)
    if by == "length":
        return torch.tensor(max(1, len(mask) * (mask.shape[-1] if length is None else length)), device=mask.device)
    raise UserError(f'by={by!r} is unknown; choose "token", "sequence" or "length"')


def whiten(x, mask, shift_mean=True, eps=1e-8):
    """(x - mean) / sqrt(variance + eps) over all unmasked entries, the variance with Bessel's correction; without
    ``shift_mean`` the mean is put back, so that signs survive (OpenAI's lm-human-preferences, ``whiten``). 0 where masked.

    Shapes: x (B, T), mask (B, T) bool -> (B, T).
    """
    count = mask.sum()
    x = torch.where(mask, x, 0)
    mean = x.sum() / count.clamp(min=1)
    centred = torch.where(mask, x - mean, 0)
    scale = torch.rsqrt(centred.square().sum() / (count - 1).clamp(min=1) + eps)
    return (centred if shift_mean else x) * scale


def explained_variance(values, returns, mask):
    """1 - Var(returns - values) / Var(returns) over unmasked entries (), 0 for returns that are all the same."""
    count = mask.sum().clamp(min=1)

    def variance(x):
        x = torch.where(mask, x, 0)
        return torch.where(mask, x - x.sum() / count, 0).square().sum() / count

    largest = returns.masked_fill(~mask, -torch.inf).amax()
    varied = largest > returns.masked_fill(~mask, torch.inf).amin()
    total = variance(returns)
    return torch.where(varied, 1 - variance(returns - values) / total, torch.zeros_like(total))
