"""One training step of a policy that learns from pairs."""

import torch

from numpy_ref.reward.dataset import flat
from torch_impl.dpo.logprobs import answer_targets, sequence_logprobs
from torch_impl.dpo.objective import dpo, implicit_reward, ipo
from torch_impl.model.transformer import transformer
from torch_impl.reward.rows import padded
from torch_impl.reward.step import comparison_metrics
from torch_impl.training.accumulation import accumulated
from torch_impl.training.step import apply_gradients, compute_dtype, loss_scale

TORCH_EXTRA_ARGUMENTS = {"forward"}


def pair_logprobs(params, comparisons, model_config, train_config, forward=transformer):
    """(B, 2): ln p of the chosen and the rejected answer of each pair, on the device of the parameters."""
    device = params["token_embedding.weight"].device
    tokens, _, ends = (tensor.to(device) for tensor in padded(flat(comparisons)[0]))
    starts = torch.tensor([start for one in comparisons for start in one.answers], device=device)
    targets = answer_targets(tokens, ends, starts)
    rows = train_config.loss_rows(targets.numel(), model_config.vocab_size)
    chunk = 0 if rows >= targets.numel() else rows
    logprobs = sequence_logprobs(
        tokens[:, :-1], targets, params, model_config, chunk, train_config.recompute, forward
    )
    return logprobs.view(-1, 2)


def pair_loss(policy, reference, ties, settings, label_smoothing=0.0, denominator=None):
    """The loss of ``settings`` (DPOConfig). Shapes: log-probabilities (B, 2), chosen first, ties bool (B,) -> ()."""
    four = (*policy.unbind(1), *reference.unbind(1))
    if settings.loss == "ipo":
        return ipo(*four, settings.beta, ties, denominator)
    return dpo(*four, settings.beta, ties, label_smoothing, denominator)


def dpo_loss_and_grads(
    params, comparisons, reference, model_config, train_config, settings, scale=1.0, forward=transformer
):
    """(loss, name -> gradient, metrics of the implicit rewards) of a batch of pairs.

    reference (B, 2): the reference's ``pair_logprobs``; settings: DPOConfig; parts and scale: see ``accumulated``.
    """

    def part(weights, rows):
        policy = pair_logprobs(weights, comparisons[rows], model_config, train_config, forward)
        known = reference[rows].to(policy)
        ties = torch.from_numpy(flat(comparisons[rows])[3]).to(policy.device)
        loss = pair_loss(policy, known, ties, settings, train_config.label_smoothing, len(comparisons))
        rewards = implicit_reward(policy.detach(), known, settings.beta)
        return loss, (*rewards.unbind(1), ties, rewards.flatten())

    loss, grads, seen = accumulated(params, len(comparisons), part, model_config, train_config, scale)
    return loss, grads, comparison_metrics(*(torch.cat(values) for values in zip(*seen)))


def dpo_step(
    params, states, comparisons, reference, model_config, train_config, settings, step, forward=transformer
):
    """One optimiser step in place: (metrics, params, states) as of ``train_step``."""
    dtype = compute_dtype(params, model_config, train_config)
    scale = loss_scale(states, train_config, dtype)["scale"]
    loss, grads, more = dpo_loss_and_grads(
        params, comparisons, reference, model_config, train_config, settings, scale, forward
    )
    metrics, params, states = apply_gradients(params, states, loss, grads, train_config, step, dtype)
    return metrics | more, params, states
