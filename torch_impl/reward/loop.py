"""The training loop of a reward model."""

import dataclasses

from numpy_ref import checkpoint_file
from numpy_ref.drive import drive
from torch_impl.device import choose_device
from torch_impl.reward.evaluation import evaluate_comparisons
from torch_impl.reward.model import with_reward_head
from torch_impl.reward.rows import shuffled
from torch_impl.reward.step import reward_step
from torch_impl.training import checkpoint
from torch_impl.training.loop import device_name, master_dtype, resumed
from torch_impl.training.optimizer import init_states


def train_reward(
    base, train_config, settings, dataset, out, resume=False, stop_after=None, report=None, seconds=None, sample=None
):
    """Train a reward model in the run folder ``out`` from the weights of the Run ``base``; returns its Run.

    settings: RewardConfig; dataset: Comparisons; the rest as of ``training.loop.train``. The held-out loss chooses the best
    checkpoint. There is no dropout. A resumed run is that of the folder, on either wing.
    """
    c, device = train_config, choose_device(train_config.device)
    run = resumed(base.model_config, c, out) if resume else _begin(base, c, device)
    checkpoint_file.describe(out, run.model_config, c, device_name(device))

    def step():
        chosen = [dataset.train[i] for i in shuffled(run.position, c.batch, len(dataset.train), c.seed).tolist()]
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


def _begin(base, train_config, device):
    """The Run before its first step: the base's weights, with a new head unless it is a reward model already."""
    config = dataclasses.replace(base.model_config, output="reward", dropout=0.0)
    params = {name: value.to(device, master_dtype(train_config), copy=True) for name, value in base.params.items()}
    if base.model_config.output != "reward":
        params = with_reward_head(params, config, train_config.seed)
    return checkpoint_file.Run(config, train_config, params, init_states(params, train_config))
