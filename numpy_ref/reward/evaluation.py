"""How good a reward model is: does it prefer what people prefer, does it know how sure it is, and can it be fooled?"""

import numpy as np

from numpy_ref.reward.dataset import flat
from numpy_ref.reward.model import reward_model
from numpy_ref.reward.rows import packed
from numpy_ref.reward.step import comparison_metrics, comparison_scores, preference_loss


def judge(params, texts, config, batch_size=64):
    """The reward of each text (n,) of ids -> (N,), float32 or better.

    Texts of like length go through the model together, so that there is little padding.
    """
    order = np.argsort([len(text) for text in texts], kind="stable")
    rewards = np.zeros(len(texts), np.float64)
    for first in range(0, len(texts), batch_size):
        chosen = order[first : first + batch_size]
        tokens, documents, ends = packed([texts[i] for i in chosen], config.context, config.width)
        found, _ = reward_model(tokens, ends, params, config, documents)
        rewards = rewards.astype(found.dtype)
        rewards[chosen] = found
    return rewards


def evaluate_comparisons(params, comparisons, config, settings, batch_size, label_smoothing=0.0):
    """Loss and metrics (``comparison_metrics``) over Comparisons that were not trained on, as Python numbers.

    Returns {"loss", "accuracy", "lead", "reward"}.
    """
    total, seen = 0.0, []
    for first in range(0, len(comparisons), batch_size):
        part = comparisons[first : first + batch_size]
        (scores, mask), _ = comparison_scores(params, part, config)
        _, _, margins, ties = flat(part)
        total += float(preference_loss(scores, mask, margins, ties, settings, label_smoothing, 1)[0])
        seen.append((scores[:, 0], scores[:, 1], ties, scores[mask]))
    metrics = comparison_metrics(*(np.concatenate(values) for values in zip(*seen)))
    return {"loss": total / len(comparisons)} | {name: float(value) for name, value in metrics.items()}


def accuracy_by(lead, amount, edges):
    """Pair accuracy where the truth is clear and where it is close: in bins of the ``amount`` by which the better is better.

    A pair is right if its lead r_c - r_r is above 0, and half right at 0. Bin i holds edges[i] <= amount < edges[i + 1].

    Shapes: lead, amount (N,), edges (K + 1,) rising -> accuracy (K,), 0 for an empty bin, and count (K,) int64.
    """
    right = (np.sign(lead) + 1.0) / 2.0
    inside = (amount >= edges[:-1, None]) & (amount < edges[1:, None])
    count = np.sum(inside, axis=1)
    return np.sum(np.where(inside, right, 0.0), axis=1) / np.maximum(count, 1), count.astype(np.int64)


def calibration(lead, bins=10):
    """Is a pair that the model calls 80 % sure right in 80 of 100 cases? (Guo et al., arXiv:1706.04599, eq. 2 and 3)

    Bradley and Terry's model is sigmoid(|r_c - r_r|) sure of the answer it prefers, 1/2 or more. With the pairs in bins
    of equal width from 1/2 to 1,

        error = sum_b n_b / N |accuracy_b - confidence_b|

    Shapes: lead (N,) = r_c - r_r -> confidence, accuracy (bins,), 0 in empty bins, count (bins,) int64, error ().
    """
    sure = 1.0 / (1.0 + np.exp(-np.abs(lead)))
    right = (np.sign(lead) + 1.0) / 2.0
    place = np.minimum(((sure - 0.5) * 2.0 * bins).astype(np.int64), bins - 1)
    inside = place == np.arange(bins)[:, None]
    count = np.sum(inside, axis=1)
    some = np.maximum(count, 1)
    confidence = np.sum(np.where(inside, sure, 0.0), axis=1) / some
    accuracy = np.sum(np.where(inside, right, 0.0), axis=1) / some
    error = np.sum(count * np.abs(accuracy - confidence)) / len(lead)
    return confidence, accuracy, count.astype(np.int64), error


def best_of_n(proxy, truth, n):
    """The true worth that one can expect of the best of n answers by a model's rewards, from N >= n answers each.

    Every choice of n of the N counts (arXiv:2112.09332, app. I): with the answers in rising order of the model's reward,
    number i is the best of a choice in C(i - 1, n - 1) of C(N, n) cases,

        w_N = n / N        w_{i-1} = w_i (i - n) / (i - 1)        E = mean over prompts of sum_i w_i truth_i

    Answers of equal reward share their truth: any of them may be taken. If E falls as n grows, the model is over-optimised.

    Shapes: proxy, truth (P, N) of P prompts -> ().
    """
    samples = proxy.shape[1]
    equal = proxy[:, :, None] == proxy[:, None, :]
    shared = np.sum(np.where(equal, truth[:, None, :], 0.0), axis=2) / np.sum(equal, axis=2)
    ranked = np.take_along_axis(shared, np.argsort(proxy, axis=1, kind="stable"), axis=1)
    weights = np.zeros(samples)
    weights[-1] = n / samples
    for i in range(samples, 1, -1):
        weights[i - 2] = weights[i - 1] * max(0, i - n) / (i - 1)
    return np.mean(np.sum(weights.astype(truth.dtype) * ranked, axis=1))
