"""One training step of a policy on preferences."""

import numpy as np

from numpy_ref.dpo.logprobs import answer_targets, sequence_logprobs
from numpy_ref.dpo.objective import dpo, implicit_reward, ipo
from numpy_ref.reward.dataset import flat
from numpy_ref.reward.rows import padded
from numpy_ref.reward.step import comparison_metrics
from numpy_ref.training.accumulation import accumulated
from numpy_ref.training.step import apply_gradients, loss_scale


def pair_logprobs(params, comparisons, model_config, train_config):
    """ln p of the answers of pairs, chosen and rejected: (B, 2), float32 or better;  vjp: dy (B, 2) -> grads."""
    texts = flat(comparisons)[0]
    tokens, _, ends = padded(texts)
    starts = np.array([start for one in comparisons for start in one.answers], np.int64)
    targets = answer_targets(tokens, ends, starts)
    rows = train_config.loss_rows(targets.size, model_config.vocab_size)
    chunk = 0 if rows >= targets.size else rows
    logprobs, vjp = sequence_logprobs(tokens[:, :-1], targets, params, model_config, chunk, train_config.recompute)
    return logprobs.reshape(-1, 2), lambda dy: vjp(dy.reshape(-1))


def pair_loss(policy, reference, ties, settings, label_smoothing=0.0, denominator=None):
    """The loss that ``settings`` (DPOConfig) names, of log-probabilities of chosen and rejected answers.

    Shapes: policy, reference (B, 2), ties bool (B,) -> ();  vjp: dy -> dpolicy (B, 2).
    """
    four = policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1]
    if settings.loss == "ipo":
        loss, vjp = ipo(*four, settings.beta, ties, denominator)
    else:
        loss, vjp = dpo(*four, settings.beta, ties, label_smoothing, denominator)
    return loss, lambda dy: np.stack(vjp(dy), axis=1)


def dpo_loss_and_grads(params, comparisons, reference, model_config, train_config, settings, scale=1.0):
    """Mean loss of a batch of pairs, its gradient, and the implicit rewards' metrics (``comparison_metrics``).

    reference: (B, 2), ``pair_logprobs`` of the reference model. settings: DPOConfig. Parts and scale: ``accumulated``.
    """

    def part(weights, rows):
        few, known = comparisons[rows], reference[rows]
        policy, policy_vjp = pair_logprobs(weights, few, model_config, train_config)
        known, ties = known.astype(policy.dtype), flat(few)[3]
        loss, loss_vjp = pair_loss(policy, known, ties, settings, train_config.label_smoothing, len(comparisons))
        rewards = implicit_reward(policy, known, settings.beta)
        return loss, lambda dy: policy_vjp(loss_vjp(dy)), (rewards[:, 0], rewards[:, 1], ties, rewards.reshape(-1))

    loss, grads, seen = accumulated(params, len(comparisons), part, model_config, train_config, scale)
    return loss, grads, comparison_metrics(*(np.concatenate(values) for values in zip(*seen)))


def dpo_step(params, states, comparisons, reference, model_config, train_config, settings, step):
    """One step on a batch of pairs: returns (metrics, params, states) as ``train_step`` does."""
    with np.errstate(invalid="ignore", over="ignore"):
        loss, grads, more = dpo_loss_and_grads(
            params, comparisons, reference, model_config, train_config, settings, loss_scale(states, train_config)["scale"]
        )
    metrics, params, states = apply_gradients(params, states, loss, grads, train_config, step)
    return metrics | more, params, states
