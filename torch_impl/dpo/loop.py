"""The training loop of DPO and IPO."""

import dataclasses

import torch

from numpy_ref import checkpoint_file
from numpy_ref.drive import drive
from numpy_ref.reward.dataset import flat
from torch_impl.device import choose_device
from torch_impl.dpo.objective import implicit_reward
from torch_impl.dpo.step import dpo_step, pair_logprobs, pair_loss
from torch_impl.reward.rows import shuffled
from torch_impl.reward.step import comparison_metrics
from torch_impl.training import checkpoint
from torch_impl.training.loop import device_name, master_dtype, resumed
from torch_impl.training.optimizer import init_states
from torch_impl.training.step import compute_dtype

TORCH_ONLY = {"frozen_logprobs"}


def train_dpo(
    base, train_config, settings, dataset, out, resume=False, stop_after=None, report=None, seconds=None, sample=None
):
    """Train a policy on pairs, from the weights of the Run ``base``, which also are the reference; returns its Run.

    settings: DPOConfig; dataset: Comparisons of two answers; the rest as of ``training.loop.train``. The log-probabilities
    of the reference are computed when a pair is first drawn, and kept. There is no dropout.
    """
    c, device = train_config, choose_device(train_config.device)
    config = dataclasses.replace(base.model_config, dropout=0.0)
    fixed = {name: value.to(device, master_dtype(c), copy=True) for name, value in base.params.items()}
    if resume:
        run = resumed(config, c, out)
    else:
        params = {name: value.clone() for name, value in fixed.items()}  # training works in place
        run = checkpoint_file.Run(config, c, params, init_states(params, c))
    checkpoint_file.describe(out, config, c, device_name(device))
    known = {}

    def reference(pairs):
        new = [pair for pair in pairs if id(pair) not in known]
        for first in range(0, len(new), c.batch):
            few = new[first : first + c.batch]
            known.update(zip(map(id, few), frozen_logprobs(fixed, few, config, c)))
        return torch.stack([known[id(pair)] for pair in pairs])

    def step():
        chosen = [dataset.train[i] for i in shuffled(run.position, c.batch, len(dataset.train), c.seed).tolist()]
        metrics, run.params, run.states = dpo_step(
            run.params, run.states, chosen, reference(chosen), config, c, settings, run.step
        )
        run.advance(c.batch, sum(len(text) for one in chosen for text in one.texts))
        return metrics

    def held_out():
        return evaluate_pairs(run.params, dataset.validation, reference, config, c, settings)

    return drive(run, out, step, held_out, checkpoint.snapshot, stop_after, report, seconds, sample)


@torch.no_grad()
def frozen_logprobs(params, pairs, config, train_config):
    """``pair_logprobs`` in the format in which a step computes, without a graph: at its first step a policy then has
    exactly its reference's. -> (B, 2)."""
    dtype = compute_dtype(params, config, train_config)
    weights = {name: param.to(dtype) for name, param in params.items()}
    return pair_logprobs(weights, pairs, config, train_config)


@torch.no_grad()
def evaluate_pairs(params, pairs, reference, config, train_config, settings):
    """{"loss", "accuracy", "lead", "reward"} of a policy on pairs, as Python numbers; the rewards are the implicit ones.

    ``reference(pairs)`` -> (B, 2): log-probabilities of the reference.
    """
    size = train_config.batch
    parts = [pairs[first : first + size] for first in range(0, len(pairs), size)]
    policy = torch.cat([frozen_logprobs(params, part, config, train_config) for part in parts])
    known = torch.cat([reference(part) for part in parts])
    ties = torch.from_numpy(flat(pairs)[3]).to(policy.device)
    loss = pair_loss(policy, known, ties, settings, train_config.label_smoothing)
    rewards = implicit_reward(policy, known, settings.beta)
    metrics = {"loss": loss} | comparison_metrics(*rewards.unbind(1), ties, rewards)
    return {name: value.item() for name, value in metrics.items()}
