"""GRPO on groups of completions of a language model."""

from torch_impl.grpo.advantages import group_advantages
from torch_impl.grpo.loss import grpo_loss
from torch_impl.grpo.objective import BY
from torch_impl.rl.loop import begin, output_of, reinforce, resumed


def train_grpo(
    model_config, train_config, settings, source, judge, base, out, resume=False, stop_after=None, report=None,
    seconds=None, sample=None,
):  # fmt: skip
    """A GRPO run in ``out``, from the policy ``base`` of model_config or resumed; returns the Run. settings: a GRPOConfig;
    the rest as ``rl.loop.reinforce`` takes it."""
    config = output_of(model_config, "tokens")
    run, reference = resumed(config, train_config, out) if resume else begin(config, train_config, base, out)
    by = BY[settings.objective]
    return reinforce(
        run, reference, source, judge, settings, advantages, grpo_loss, by, out, stop_after, report, seconds, sample
    )


def advantages(run, batch, settings):
    """Advantages (B, 1) of completions within their groups."""
    rewards, valid = (batch[name].view(-1, settings.group) for name in ("rewards", "valid"))
    return {"advantages": group_advantages(rewards, settings.baseline, valid).view(-1, 1)}
