"""The training loop of a reward model: comparisons in a shuffled order, from a language model's weights on."""

import dataclasses

from numpy_ref import checkpoint_file
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.drive import drive
from numpy_ref.reward.evaluation import evaluate_comparisons
from numpy_ref.reward.model import with_reward_head
from numpy_ref.reward.rows import shuffled
from numpy_ref.reward.step import reward_step
from numpy_ref.training import checkpoint
from numpy_ref.training.loop import resumed
from numpy_ref.training.optimizer import init_states


def train_reward(
    base, train_config, settings, dataset, out, resume=False, stop_after=None, report=None, seconds=None, sample=None
):
    """Train a reward model in the run folder ``out``; returns the Run.

    ``base``: the Run of a language model whose weights it begins with, or of a reward model; a resumed run goes on from
    its own checkpoint. ``settings``: RewardConfig. ``dataset``: Comparisons. The best checkpoint is that of the lowest
    held-out loss; the log has accuracy, lead and mean reward of every step, and of the held-out part.
    Other arguments and errors as of ``training.loop.train``. Dropout is off.
    """
    c = train_config
    run = resumed(base.model_config, c, out) if resume else _begin(base, c)
    checkpoint_file.describe(out, run.model_config, c, "cpu")

    def step():
        chosen = [dataset.train[i] for i in shuffled(run.position, c.batch, len(dataset.train), c.seed)]
        metrics, run.params, run.states = reward_step(
            run.params, run.states, chosen, run.model_config, c, settings, run.step
        )
        run.advance(c.batch, sum(len(text) for one in chosen for text in one.texts))
        return metrics

    def held_out():
        return evaluate_comparisons(
            run.params, dataset.validation, run.model_config, settings, c.batch, c.label_smoothing
        )

    return drive(run, out, step, held_out, checkpoint.snapshot, stop_after, report, seconds, sample)


def _begin(base, train_config):
    """The Run before its first step."""
    config = dataclasses.replace(base.model_config, output="reward", dropout=0.0)
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), config)
    params = {name: value.astype(dtype) for name, value in base.params.items()}
    if base.model_config.output != "reward":
        params = with_reward_head(params, config, train_config.seed)
    return checkpoint_file.Run(config, train_config, params, init_states(params, train_config))
