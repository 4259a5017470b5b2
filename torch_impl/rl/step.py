"""From a rollout to new weights."""

import torch

from numpy_ref.rl.record import NOTHING, step_means
from torch_impl.ppo.objective import ratio_statistics
from torch_impl.rl.batch import chosen, minibatch_rows
from torch_impl.rl.masked import aggregate, loss_denominator
from torch_impl.rl.policy import policy
from torch_impl.training.step import apply_gradients, compute_dtype

TORCH_EXTRA_ARGUMENTS = {"dtype"}

# What is learnt from; the rest of a batch is for the record.
LEARNT = ("tokens", "mask", "logprobs", "kept", "advantages", "returns", "values", "reference", "starts", "lengths", "prompts")


def policy_gradients(params, batch, model_config, settings, objective, kl, by, accumulate=1, dtype=None):
    """(loss (), name -> gradient, batch, (logprobs, entropy, values) (B, T - 1)) of a minibatch under ``ppo_loss`` or
    ``grpo_loss``; kl: the weight of the KL term, by: the average. ``accumulate`` parts of the rows go through the model
    one after another, each over the denominator of all. ``dtype``: in which the model computes (that of params).

    The batch that comes back lacks rows whose gradient is 0 whatever the policy says: those of advantage 0, where
    neither KL, nor entropy, nor a critic is in the loss."""
    denominator = loss_denominator(batch["mask"], by, settings.tokens)
    batch = _moving(batch, settings, kl)
    rows = len(batch["tokens"])
    leaves = {name: param.detach().to(dtype or param.dtype).requires_grad_() for name, param in params.items()}
    total, sums, said = None, None, []
    for part in torch.tensor_split(torch.arange(rows, device=batch["tokens"].device), min(accumulate, rows)):
        whole = len(part) == rows
        own = {name: None if batch.get(name) is None else batch[name] if whole else batch[name][part] for name in LEARNT}
        outputs = policy(
            own["tokens"], own["mask"], leaves, model_config, settings.temperature, own["kept"],
            entropy=settings.entropy > 0, shared=(own["prompts"], own["starts"]),
        )  # fmt: skip
        loss = objective(outputs, own, settings, kl, denominator)
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        grads = [grad.to(param.dtype) for grad, param in zip(grads, params.values())]
        said.append([one.detach() for one in outputs])
        if sums is None:
            total, sums = loss.detach(), grads
        else:
            total = total + loss.detach()
            torch._foreach_add_(sums, grads)
    return total, dict(zip(leaves, sums)), batch, tuple(torch.cat(one) for one in zip(*said))


def learn(params, states, batch, model_config, train_config, settings, objective, kl, by, step):
    """Every pass over a rollout, in place: ``epochs`` times ``minibatches`` optimiser steps at the learning rate of
    ``step``. Returns (metrics, params, states), metrics averaged over those steps (``ratio_max``: the largest).

    Rows without unmasked tokens take no part. After a minibatch that finds the policy more than ``stop_kl`` nats a token
    from the old one the rollout is left. "skipped" where no update was possible.
    """
    able = batch["mask"].any(1).nonzero()[:, 0]
    if not len(able):
        return dict(NOTHING), params, states
    batch = {name: batch.get(name) for name in LEARNT}
    batch = chosen(batch, able)
    dtype = compute_dtype(params, model_config, train_config)
    found = []
    for epoch in range(settings.epochs):
        order = minibatch_rows(len(able), settings.minibatches, train_config.seed, step * settings.epochs + epoch)
        for rows in order:
            part = chosen(batch, rows.to(able.device)) if settings.minibatches > 1 else batch
            loss, grads, part, outputs = policy_gradients(
                params, part, model_config, settings, objective, kl, by, train_config.accumulate, dtype
            )
            metrics = _statistics(outputs, part, settings)
            if settings.stop_kl and metrics["kl_old"] > settings.stop_kl:
                return step_means([*found, metrics]) | {"stopped_early": 1}, params, states
            moved, params, states = apply_gradients(params, states, loss, grads, train_config, step, dtype)
            found.append(metrics | moved)
    return step_means(found), params, states


def _moving(batch, settings, kl):
    """The batch without rows that can have no gradient, but for one."""
    if kl or settings.entropy or batch.get("values") is not None:
        return batch
    rows = (batch["advantages"] != 0).any(1).nonzero()[:, 0]
    if len(rows) == len(batch["tokens"]):
        return batch
    return chosen(batch, rows if len(rows) else torch.zeros(1, dtype=torch.int64, device=rows.device))


def _statistics(outputs, batch, settings):
    logprobs, entropy, _ = outputs
    clips = settings.clip_low, settings.clip_high
    metrics = ratio_statistics(logprobs, batch["logprobs"], batch["advantages"], batch["mask"], *clips)
    return metrics | {"entropy": aggregate(entropy, batch["mask"])}
