"""Passes over a rollout: its rows in minibatches, each of them one step of the optimiser."""

import numpy as np

from numpy_ref.ppo.objective import ratio_statistics
from numpy_ref.rl.batch import chosen, minibatch_rows
from numpy_ref.rl.masked import loss_denominator
from numpy_ref.rl.policy import policy
from numpy_ref.rl.record import NOTHING, step_means
from numpy_ref.training.step import apply_gradients

# What is learnt from; the rest of a batch is for the record.
LEARNT = ("tokens", "mask", "logprobs", "kept", "advantages", "returns", "values", "reference", "starts", "lengths", "prompts")


def policy_gradients(params, batch, model_config, settings, objective, kl, by, accumulate=1):
    """Loss of a minibatch, its gradient, and what the policy now says of it.

    objective: ``ppo_loss`` or ``grpo_loss``; kl: weight of the distance in it; by: what it averages over. The rows go
    through the model in ``accumulate`` parts, which share the minibatch's denominator: their sum is its loss. Rows that
    can have no gradient (advantage 0, and nothing else in the loss) count in the denominator, and are left out.

    -> loss (), grads with the keys of params, the rows that were in it as a batch, and of these (logprobs, entropy,
    values) (B, T - 1).
    """
    denominator = loss_denominator(batch["mask"], by, settings.tokens)
    batch = _moving(batch, settings, kl)
    rows = len(batch["tokens"])
    loss, grads, said = 0.0, None, []
    for part in np.array_split(np.arange(rows), min(accumulate, rows)):
        own = {name: None if batch.get(name) is None else batch[name][part] for name in LEARNT}
        outputs, policy_vjp = policy(
            own["tokens"], own["mask"], params, model_config, settings.temperature, own["kept"]
        )
        share, loss_vjp = objective(outputs, own, settings, kl, denominator)
        part_grads = policy_vjp(*loss_vjp(np.ones_like(share)))
        loss, said = loss + share, [*said, outputs]
        grads = part_grads if grads is None else {name: grads[name] + grad for name, grad in part_grads.items()}
    return loss, grads, batch, tuple(np.concatenate(one) for one in zip(*said))


def learn(params, states, batch, model_config, train_config, settings, objective, kl, by, step):
    """All passes over a rollout.

    Returns metrics (means over the optimiser steps, of ``ratio_max`` the largest), new params, new states. Rows without
    a token that counts are left out. Once the policy is ``stop_kl`` nats a token from the one that drew the rollout, it
    is done with. A rollout with nothing to learn from is a skipped step.
    """
    able = np.nonzero(np.any(batch["mask"], axis=1))[0]
    if not len(able):
        return dict(NOTHING), params, states
    batch = chosen({name: batch.get(name) for name in LEARNT}, able)
    found = []
    for epoch in range(settings.epochs):
        order = minibatch_rows(len(able), settings.minibatches, train_config.seed, step * settings.epochs + epoch)
        for rows in order:
            part = chosen(batch, rows) if settings.minibatches > 1 else batch
            loss, grads, part, outputs = policy_gradients(
                params, part, model_config, settings, objective, kl, by, train_config.accumulate
            )
            metrics = _statistics(outputs, part, settings)
            if settings.stop_kl and metrics["kl_old"] > settings.stop_kl:
                return step_means([*found, metrics]) | {"stopped_early": 1}, params, states
            moved, params, states = apply_gradients(params, states, loss, grads, train_config, step)
            found.append(metrics | moved)
    return step_means(found), params, states


def _moving(batch, settings, kl):
    """The batch without rows that nothing can move; at least one stays."""
    if kl or settings.entropy or batch.get("values") is not None:
        return batch
    rows = np.nonzero(np.any(batch["advantages"] != 0, axis=1))[0]
    return batch if len(rows) == len(batch["tokens"]) else chosen(batch, rows if len(rows) else np.arange(1))


def _statistics(outputs, batch, settings):
    logprobs, entropy, _ = outputs
    clips = settings.clip_low, settings.clip_high
    metrics = ratio_statistics(logprobs, batch["logprobs"], batch["advantages"], batch["mask"], *clips)
    return metrics | {"entropy": np.sum(np.where(batch["mask"], entropy, 0.0)) / loss_denominator(batch["mask"])}
