"""One training step of a reward model."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.precision import stored
from numpy_ref.reward.dataset import flat
from numpy_ref.reward.model import reward_model
from numpy_ref.reward.objective import bradley_terry, margin_ranking, plackett_luce
from numpy_ref.reward.rows import padded
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
    tokens, documents, ends = padded(texts)
    rewards, model_vjp = reward_model(tokens, ends, params, config, documents, recompute)
    mask = np.arange(int(counts.max())) < counts[:, None]
    scores = np.zeros(mask.shape, rewards.dtype)
    scores[mask] = rewards  # the mask goes row by row, as the answers do
    return (scores, mask), lambda dscores: model_vjp(dscores[mask])


def reward_loss_and_grads(params, comparisons, model_config, train_config, settings, scale=1.0):
    """Mean loss of a batch of Comparisons, its gradient, and what the rewards say.

    With ``accumulate`` = k they go through the model in k parts; all divide by the number of comparisons in the whole.
    ``scale`` multiplies the loss before the backward pass and is divided out after. 16-bit formats as in
    `training/step.py`.
    Returns loss (), grads, {"accuracy": share of pairs in which the better answer, the first of each comparison, has the
    higher reward than the second (half for equal ones, ties left out), "lead": by how much on average, "reward": mean of all
    answers}. Raises UserError where k does not divide the batch.
    """
    size, parts = len(comparisons), train_config.accumulate
    if size % parts:
        raise UserError(f"{size} comparisons can't be cut into accumulate={parts} equal parts; take a divisor of {size}")
    half = train_config.dtype if train_config.dtype in ("bfloat16", "float16") else None
    weights = {name: stored(param, half) for name, param in params.items()} if half else params
    total, grads, seen = 0.0, None, []
    for first in range(0, size, size // parts):
        part = comparisons[first : first + size // parts]
        (scores, mask), scores_vjp = comparison_scores(weights, part, model_config, train_config.recompute)
        _, _, margins, ties = flat(part)
        loss, loss_vjp = preference_loss(scores, mask, margins, ties, settings, train_config.label_smoothing, size)
        own = {name: np.asarray(grad) / scale for name, grad in scores_vjp(loss_vjp(scale)).items()}
        total = total + loss
        grads = own if grads is None else {name: grads[name] + grad for name, grad in own.items()}
        seen.append((scores[:, 0], scores[:, 1], ties, scores[mask]))
    return total, grads, comparison_metrics(*(np.concatenate(values) for values in zip(*seen)))


def comparison_metrics(better, worse, ties, rewards):
    """What a log says about rewards: {"accuracy", "lead", "reward"}, see ``reward_loss_and_grads``.

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
