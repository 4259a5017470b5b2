"""The sum that PPO minimises."""

from torch_impl.ppo.objective import policy_loss, value_loss
from torch_impl.rl.regulariser import regulariser


def ppo_loss(outputs, batch, settings, kl, denominator=None):
    """Clipped surrogate, critic's error, KL penalty and entropy bonus (arXiv:1707.06347 eq. 9).

    Shapes: outputs, three of (B, T) as from ``policy``; batch: "mask", "logprobs", "advantages", "values", "returns" and
    "reference" (None without KL), (B, T) -> ().
    """
    logprobs, entropy, values = outputs
    mask, old, s = batch["mask"], batch["logprobs"], settings
    average = {"by": s.by, "denominator": denominator}
    surrogate = policy_loss(
        logprobs, old, batch["advantages"], mask, s.clip_low, s.clip_high, s.dual_clip, **average
    )
    error = value_loss(values, batch["values"], batch["returns"], mask, s.value_clip, **average)
    terms = {"kl": kl, "kind": s.kl_loss_kind, "weighted": s.kl_weighted, "bonus": s.entropy}
    others = regulariser(logprobs, entropy, old, batch["reference"], mask, **terms, **average)
    return surrogate + s.value_coefficient * error + others
