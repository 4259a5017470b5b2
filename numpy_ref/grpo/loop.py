"""Group-relative policy optimisation (arXiv:2402.03300) and its relatives."""

from numpy_ref.grpo.advantages import group_advantages
from numpy_ref.grpo.loss import grpo_loss
from numpy_ref.grpo.objective import BY
from numpy_ref.rl.loop import begin, output_of, reinforce, resumed


def train_grpo(
    model_config, train_config, settings, source, judge, base, out, resume=False, stop_after=None, report=None,
    seconds=None, sample=None,
):  # fmt: skip
    """Train the policy ``base`` (name -> array, of model_config) in the run folder ``out``; returns the Run.

    settings: GRPOConfig. source: prompts (``rl.prompts``); judge: their rewards (``rl.rewards``). The other arguments and
    errors are those of ``rl.loop.reinforce``.
    """
    config = output_of(model_config, "tokens")
    run, reference = resumed(config, train_config, out) if resume else begin(config, train_config, base, out)
    by = BY[settings.objective]
    return reinforce(
        run, reference, source, judge, settings, advantages, grpo_loss, by, out, stop_after, report, seconds, sample
    )


def advantages(run, batch, settings):
    """{"advantages" (B, 1)}: each completion's reward beside those of its group."""
    groups = batch["rewards"].reshape(-1, settings.group), batch["valid"].reshape(-1, settings.group)
    return {"advantages": group_advantages(groups[0], settings.baseline, groups[1]).reshape(-1, 1)}
