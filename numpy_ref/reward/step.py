"""One training step of a reward model."""

import numpy as np

from numpy_ref.reward.dataset import flat
from numpy_ref.reward.model import reward_model
from numpy_ref.reward.objective import bradley_terry, margin_ranking, plackett_luce
from numpy_ref.reward.rows import packed
from numpy_ref.training.accumulation import accumulated
from numpy_ref.training.step import apply_gradients, loss_scale


def preference_loss(scores, mask, margins, ties, settings, label_smoothing=0.0, denominator=None):
    """The loss that ``settings`` (RewardConfig) names, of the rewards of each comparison's answers, best first.

    Shapes: scores (B, K), mask bool (B, K), margins (B,), ties bool (B,) -> ();  vjp: dy -> dscores (B, K).
    """
    if settings.loss == "plackett_luce":
        return plackett_luce(scores, mask, denominator)
    margin = (settings.lead + settings.margin_scale * margins).astype(scores.dtype)
    pair = scores[:, 0], scores[:, 1]
    if settings.loss == "margin_ranking":
        loss, pair_vjp = margin_ranking(*pair, margin, ties, denominator)
    else:
        loss, pair_vjp = bradley_terry(*pair, margin, ties, label_smoothing, settings.centring, denominator)
    return loss, lambda dy: np.stack(pair_vjp(dy), axis=1)


def comparison_scores(params, comparisons, config, recompute=False):
    """The rewards of all answers of some Comparisons, a row for each comparison.

    -> scores (B, K), 0 where there is no answer, and mask bool (B, K); vjp: dscores (B, K) -> grads. K: most answers.
    """
    texts, counts, _, _ = flat(comparisons)
    tokens, documents, ends = packed(texts, config.context, config.width)
    rewards, model_vjp = reward_model(tokens, ends, params, config, documents, recompute)
    mask = np.arange(int(counts.max())) < counts[:, None]
    scores = np.zeros(mask.shape, rewards.dtype)
    scores[mask] = rewards  # the mask goes row by row, as the answers do
    return (scores, mask), lambda dscores: model_vjp(dscores[mask])


def reward_loss_and_grads(params, comparisons, model_config, train_config, settings, scale=1.0):
    """Mean loss of a batch of Comparisons, its gradient, and what the rewards say.

    ``accumulate`` and ``scale`` as in ``accumulated``; all parts divide by the number of comparisons in the whole.
    Returns loss (), grads, and {"accuracy", "lead", "reward"} of ``comparison_metrics``.
    """

    def part(weights, rows):
        few = comparisons[rows]
        (scores, mask), scores_vjp = comparison_scores(weights, few, model_config, train_config.recompute)
        _, _, margins, ties = flat(few)
        loss, loss_vjp = preference_loss(
            scores, mask, margins, ties, settings, train_config.label_smoothing, len(comparisons)
        )
        return loss, lambda dy: scores_vjp(loss_vjp(dy)), (scores[:, 0], scores[:, 1], ties, scores[mask])

    loss, grads, seen = accumulated(params, len(comparisons), part, model_config, train_config, scale)
    return loss, grads, comparison_metrics(*(np.concatenate(values) for values in zip(*seen)))


def comparison_metrics(better, worse, ties, rewards):
    """What a log says about rewards.

    accuracy: the share of pairs in which the better answer (the first of each comparison) has a higher reward than the
    second, half for equal ones; lead: by how much, on average; both without ties. reward: mean of all answers.

    Shapes: better, worse (B,), ties bool (B,), rewards (N,) of all answers -> numbers (). Without any pair that is no tie
    accuracy and lead are NaN, which a log shows as nothing.
    """
    lead = (better - worse)[~ties]
    if not lead.size:
        return {"accuracy": np.nan, "lead": np.nan, "reward": np.mean(rewards)}
    accuracy = np.mean((np.sign(lead) + 1.0) / 2.0)
    return {"accuracy": accuracy, "lead": np.mean(lead), "reward": np.mean(rewards)}


def reward_step(params, states, comparisons, model_config, train_config, settings, step):
    """One step on a batch of Comparisons: returns (metrics, params, states) as ``train_step`` does, with those of
    ``reward_loss_and_grads`` among the metrics."""
    with np.errstate(invalid="ignore", over="ignore"):
        loss, grads, more = reward_loss_and_grads(
            params, comparisons, model_config, train_config, settings, loss_scale(states, train_config)["scale"]
        )
    metrics, params, states = apply_gradients(params, states, loss, grads, train_config, step)
    return metrics | more, params, states
