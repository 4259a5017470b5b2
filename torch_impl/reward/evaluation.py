"""Measuring reward models on answers that they have not seen."""

import torch

from numpy_ref.reward.dataset import flat
from torch_impl.reward.model import reward_model
from torch_impl.reward.rows import packed
from torch_impl.reward.step import comparison_metrics, comparison_scores, preference_loss


@torch.inference_mode()
def judge(params, texts, config, batch_size=64):
    """Rewards (N,) of texts of ids (n,), on the device of the parameters; batches of like lengths, in the order given."""
    device = params["token_embedding.weight"].device
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = []
    for first in range(0, len(texts), batch_size):
        few = [texts[i] for i in order[first : first + batch_size]]
        tokens, documents, ends = (tensor.to(device) for tensor in packed(few, config.context, config.width))
        found.append(reward_model(tokens, ends, params, config, documents))
    rewards = torch.cat(found)
    return torch.empty_like(rewards).index_copy_(0, torch.tensor(order, device=device), rewards)


@torch.inference_mode()
def evaluate_comparisons(params, comparisons, config, settings, batch_size, label_smoothing=0.0):
    """{"loss", "accuracy", "lead", "reward"} over Comparisons, as Python numbers; the loss is that of training."""
    losses, seen = [], []
    for first in range(0, len(comparisons), batch_size):
        part = comparisons[first : first + batch_size]
        scores, mask = comparison_scores(params, part, config)
        margins, ties = (torch.as_tensor(value).to(scores.device) for value in flat(part)[2:])
        losses.append(preference_loss(scores, mask, margins, ties, settings, label_smoothing, 1))
        seen.append((scores[:, 0], scores[:, 1], ties, scores[mask]))
    metrics = {"loss": torch.stack(losses).sum() / len(comparisons)}
    metrics |= comparison_metrics(*(torch.cat(values) for values in zip(*seen)))
    return {name: value.item() for name, value in metrics.items()}


def accuracy_by(lead, amount, edges):
    """(accuracy, count) of pairs in bins of ``amount``, half-open on the right; an empty bin has accuracy 0.

    Shapes: lead = r_c - r_r and amount (N,), edges (K + 1,) rising -> (K,), (K,) int64.
    """
    bins = torch.bucketize(amount, edges, right=True) - 1
    here = (bins >= 0) & (bins < len(edges) - 1)
    right = ((lead.sign() + 1) / 2)[here]
    count = torch.bincount(bins[here], minlength=len(edges) - 1)
    total = right.new_zeros(len(edges) - 1).index_add_(0, bins[here], right)
    return total / count.clamp(min=1), count


def calibration(lead, bins=10):
    """Reliability diagram and expected calibration error (arXiv:1706.04599 eq. 2, 3) of P(preferred) = sigmoid(|lead|).

    Shapes: lead (N,) -> confidence, accuracy (bins,), 0 where empty, count (bins,) int64, error ().
    """
    sure, right = torch.sigmoid(lead.abs()), (lead.sign() + 1) / 2
    place = ((sure - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    zeros = sure.new_zeros(bins)
    count = torch.bincount(place, minlength=bins)
    confidence, accuracy = (zeros.index_add(0, place, value) / count.clamp(min=1) for value in (sure, right))
    return confidence, accuracy, count, (count * (accuracy - confidence).abs()).sum() / len(lead)


def best_of_n(proxy, truth, n):
    """Expected truth of the best of n answers by proxy, over all choices of n among those given (arXiv:2112.09332 app. I).

    Shapes: proxy, truth (P, N) -> (), mean over P. Equal proxies share their truth.
    """
    size = proxy.shape[1]
    ranked, order = proxy.sort(1)
    values = truth.gather(1, order)
    equal = (ranked[:, :, None] == ranked[:, None, :]).to(values.dtype)
    shared = (equal @ values[:, :, None])[:, :, 0] / equal.sum(2)
    place = torch.arange(1, size + 1, dtype=torch.float64)
    # ln C(i - 1, n - 1) - ln C(N, n), where i is at least n.
    logs = torch.lgamma(place) - torch.lgamma((place - n + 1).clamp(min=1)) - torch.lgamma(torch.tensor(float(n), dtype=torch.float64))
    whole = torch.tensor([size + 1.0, n + 1.0, size - n + 1.0], dtype=torch.float64).lgamma()
    weights = torch.where(place >= n, (logs - whole[0] + whole[1] + whole[2]).exp(), 0)
    return (shared * weights.to(values)).sum(1).mean()
