"""GRPO's whole loss, from what the policy says of a batch."""

import numpy as np

from numpy_ref.grpo.objective import BY, group_loss
from numpy_ref.rl.regulariser import regulariser


def grpo_loss(outputs, batch, settings, kl, denominator=None):
    """The objective of ``settings`` + kl distance - entropy bonus; there is no critic.

    outputs: logprobs, entropy, values (B, T), as ``policy`` returns them; batch: "mask" and "logprobs" of the old policy
    (B, T), "advantages" (B, 1), "reference" (B, T) or None; settings: GRPOConfig; kl: weight of the distance now;
    denominator: that of the whole step -> ();  vjp: dy -> dlogprobs, dentropy, dvalues (B, T), the last of which is 0.
    """
    logprobs, entropy, values = outputs
    mask, old, s = batch["mask"], batch["logprobs"], settings
    clips = s.objective, s.clip_low, s.clip_high, s.dual_clip, denominator
    surrogate, surrogate_vjp = group_loss(logprobs, old, batch["advantages"], mask, *clips)
    terms = kl, s.kl_loss_kind, s.kl_weighted, s.entropy, BY[s.objective], denominator
    others, others_vjp = regulariser(logprobs, entropy, old, batch["reference"], mask, *terms)

    def vjp(dy):
        dlogprobs, dentropy = others_vjp(dy)
        return dlogprobs + surrogate_vjp(dy), dentropy, np.zeros_like(values)

    return surrogate + others, vjp
