"""PPO's whole loss, from what the policy says of a batch."""

from numpy_ref.ppo.objective import policy_loss, value_loss
from numpy_ref.rl.regulariser import regulariser


def ppo_loss(outputs, batch, settings, kl, denominator=None):
    """policy + value_coefficient value + kl distance - entropy bonus (arXiv:1707.06347, eq. 9), each term averaged as
    ``settings.by`` says.

    outputs: logprobs, entropy, values (B, T), as ``policy`` returns them; batch: "mask", "logprobs" of the old policy,
    "advantages", "values" of the old critic, "returns", "reference" or None, each (B, T); settings: PPOConfig; kl: weight
    of the distance now; denominator: that of the whole step -> ();  vjp: dy -> dlogprobs, dentropy, dvalues (B, T).
    """
    logprobs, entropy, values = outputs
    mask, old, s = batch["mask"], batch["logprobs"], settings
    clips = s.clip_low, s.clip_high, s.dual_clip, s.by, denominator
    surrogate, surrogate_vjp = policy_loss(logprobs, old, batch["advantages"], mask, *clips)
    error, error_vjp = value_loss(values, batch["values"], batch["returns"], mask, s.value_clip, s.by, denominator)
    terms = kl, s.kl_loss_kind, s.kl_weighted, s.entropy, s.by, denominator
    others, others_vjp = regulariser(logprobs, entropy, old, batch["reference"], mask, *terms)

    def vjp(dy):
        dlogprobs, dentropy = others_vjp(dy)
        return dlogprobs + surrogate_vjp(dy), dentropy, error_vjp(s.value_coefficient * dy)

    return surrogate + s.value_coefficient * error + others, vjp
