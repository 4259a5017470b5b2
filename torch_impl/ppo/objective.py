"""PPO's two losses."""

import torch

from torch_impl.rl.masked import aggregate

GUARD = 20.0  # nats: exp of more would soon overflow


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
    """max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)) with r the ratio of new to old probability (arXiv:1707.06347
    eq. 7); where A < 0 at most -A dual_clip (arXiv:1912.09729 eq. 5; 0: no limit). Aggregated as ``aggregate`` says.

    Log-ratios are clamped to 20 nats. Shapes: (B, T) each, advantages also (B, 1), mask bool -> ().
    """
    ratio = torch.where(mask, logprobs - old_logprobs, 0).clamp(-GUARD, GUARD).exp()
    advantages = torch.where(mask, advantages, 0)
    held = ratio.detach().clamp(1 - clip_low, 1 + clip_high)
    clipped = torch.where(advantages > 0, ratio > held, ratio < held)
    losses = -advantages * torch.where(clipped, held, ratio)
    if dual_clip:
        most = -advantages * dual_clip
        losses = torch.where((advantages < 0) & (losses > most), most, losses)
    return aggregate(losses, mask, by, denominator)


def value_loss(values, old_values, returns, mask, clip=0.2, by="token", denominator=None):
    """Half of max((V - R)^2, (V_old + clip(V - V_old) - R)^2), as OpenAI's baselines have it; clip=0: the plain error.

    Shapes: (B, T) each, mask bool -> ().
    """
    values, old_values, returns = (torch.where(mask, x, 0) for x in (values, old_values, returns))
    losses = (values - returns).square()
    if clip:
        moved = values.detach() - old_values
        held = (old_values + moved.clamp(-clip, clip) - returns).square()
        losses = torch.where((moved.abs() > clip) & (held > losses), held, losses)
    return aggregate(0.5 * losses, mask, by, denominator)


@torch.no_grad()
def ratio_statistics(logprobs, old_logprobs, advantages, mask, clip_low=0.2, clip_high=0.2):
    """Mean and largest ratio, shares of clipped tokens below and above, and the mean of r - 1 - ln r, the k3 estimate
    of KL(old || new). Shapes: as ``policy_loss`` -> {name: ()}."""
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0).clamp(-GUARD, GUARD)
    ratio, advantages = log_ratio.exp(), torch.where(mask, advantages, 0)
    return {
        "ratio_mean": aggregate(ratio, mask),
        "ratio_max": torch.where(mask, ratio, 0).amax(),
        "clip_low": aggregate(((ratio < 1 - clip_low) & (advantages < 0)).to(ratio.dtype), mask),
        "clip_high": aggregate(((ratio > 1 + clip_high) & (advantages > 0)).to(ratio.dtype), mask),
        "kl_old": aggregate(torch.expm1(log_ratio) - log_ratio, mask),
    }
