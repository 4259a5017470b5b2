"""The sum that GRPO minimises."""

from torch_impl.grpo.objective import BY, group_loss
from torch_impl.rl.regulariser import regulariser


def grpo_loss(outputs, batch, settings, kl, denominator=None):
    """``group_loss`` of the objective in the settings, KL penalty and entropy bonus.

    Shapes: outputs, three of (B, T) as from ``policy``; batch: "mask", "logprobs" (B, T), "advantages" (B, 1), "reference"
    (B, T), None without KL -> ().
    """
    logprobs, entropy, _ = outputs
    mask, old, s = batch["mask"], batch["logprobs"], settings
    clips = s.objective, s.clip_low, s.clip_high, s.dual_clip
    surrogate = group_loss(logprobs, old, batch["advantages"], mask, *clips, denominator)
    terms = {"kl": kl, "kind": s.kl_loss_kind, "weighted": s.kl_weighted, "bonus": s.entropy}
    others = regulariser(
        logprobs, entropy, old, batch["reference"], mask, **terms, by=BY[s.objective], denominator=denominator
    )
    return surrogate + others
