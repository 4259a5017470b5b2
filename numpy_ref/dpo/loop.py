"""The training loop of direct preference optimisation: a policy moves away from the reference that it begins as."""

import dataclasses

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.dpo.objective import implicit_reward
from numpy_ref.dpo.step import dpo_step, pair_logprobs, pair_loss
from numpy_ref.drive import drive
from numpy_ref.reward.dataset import flat
from numpy_ref.reward.rows import shuffled
from numpy_ref.reward.step import comparison_metrics
from numpy_ref.training import checkpoint
from numpy_ref.training.loop import resumed
from numpy_ref.training.optimizer import init_states


def train_dpo(
    base, train_config, settings, dataset, out, resume=False, stop_after=None, report=None, seconds=None, sample=None
):
    """Train a policy on pairs in the run folder ``out``; returns the Run.

    ``base``: the Run whose weights are the reference, and the policy's first ones. ``settings``: DPOConfig. ``dataset``:
    Comparisons of two answers each. The reference judges each pair once; its log-probabilities are kept in memory.
    Other arguments and errors as of ``training.loop.train``. Dropout is off.
    """
    c = train_config
    config = dataclasses.replace(base.model_config, dropout=0.0)
    dtype = choose_dtype(c.dtype, choose_device(c.device), config)
    fixed = {name: value.astype(dtype) for name, value in base.params.items()}
    run = resumed(config, c, out) if resume else checkpoint_file.Run(config, c, fixed, init_states(fixed, c))
    checkpoint_file.describe(out, config, c, "cpu")
    known = {}

    def reference(pairs):
        new = [pair for pair in pairs if id(pair) not in known]
        for first in range(0, len(new), c.batch):
            few = new[first : first + c.batch]
            known.update(zip(map(id, few), pair_logprobs(fixed, few, config, c)[0]))
        return np.stack([known[id(pair)] for pair in pairs])

    def step():
        chosen = [dataset.train[i] for i in shuffled(run.position, c.batch, len(dataset.train), c.seed)]
        metrics, run.params, run.states = dpo_step(
            run.params, run.states, chosen, reference(chosen), config, c, settings, run.step
        )
        run.advance(c.batch, sum(len(text) for one in chosen for text in one.texts))
        return metrics

    def held_out():
        return evaluate_pairs(run.params, dataset.validation, reference, config, c, settings)

    return drive(run, out, step, held_out, checkpoint.snapshot, stop_after, report, seconds, sample)


def evaluate_pairs(params, pairs, reference, config, train_config, settings):
    """Loss and metrics (``comparison_metrics``) of a policy over pairs, as Python numbers, weighted by pair.

    ``reference(pairs)``: the reference's log-probabilities, as ``pair_logprobs`` gives them.
    """
    size, policy, known = train_config.batch, [], []
    for first in range(0, len(pairs), size):
        policy.append(pair_logprobs(params, pairs[first : first + size], config, train_config)[0])
        known.append(reference(pairs[first : first + size]))
    policy, known = np.concatenate(policy), np.concatenate(known)
    ties = flat(pairs)[3]
    loss, _ = pair_loss(policy, known, ties, settings, train_config.label_smoothing)
    rewards = implicit_reward(policy, known, settings.beta)
    metrics = comparison_metrics(rewards[:, 0], rewards[:, 1], ties, rewards)
    return {"loss": float(loss)} | {name: float(value) for name, value in metrics.items()}
