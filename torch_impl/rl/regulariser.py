"""KL penalty and entropy bonus."""

import torch

from torch_impl.rl.kl import kl_estimate
from torch_impl.rl.masked import aggregate

GUARD = 20.0  # nats, as in ``ppo.objective``


def regulariser(
    logprobs, entropy, old_logprobs, reference, mask, kl=0.0, kind="k2", weighted=False, bonus=0.0, by="token",
    denominator=None,
):  # fmt: skip
    """kl E[k(policy, reference)] - bonus E[entropy], the expectations over tokens as in ``aggregate``. With ``weighted``
    the estimates carry the importance ratio, whose gradient counts (as in arXiv:2512.02556 §3.1).

    Shapes: (B, T) each, mask bool, reference None where kl is 0 -> ().
    """
    loss = -bonus * aggregate(entropy, mask, by, denominator)
    if not kl:
        return loss
    logprobs, reference = torch.where(mask, logprobs, 0), torch.where(mask, reference, 0)
    estimate = kl_estimate(logprobs, reference, kind)
    if weighted:
        estimate = (logprobs - torch.where(mask, old_logprobs, 0)).clamp(-GUARD, GUARD).exp() * estimate
    return loss + kl * aggregate(estimate, mask, by, denominator)
