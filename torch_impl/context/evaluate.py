"""Measures of models of pseudo-words."""

import torch

from torch_impl.context.senses import sense_model
from torch_impl.training.losses import cross_entropy


def mutual_information(pairs, senses, guesses, count):
    """Nats that a guess says about the sense, within pairs, averaged over occurrences; from one table of counts.

    Shapes: pairs, senses, guesses (n,) integers -> (), float64.
    """
    cells = torch.bincount(4 * pairs + 2 * senses + guesses, minlength=4 * count).view(count, 2, 2).double()
    expected = cells.sum(2, keepdim=True) * cells.sum(1, keepdim=True) / cells.sum((1, 2), keepdim=True).clamp(min=1)
    return (torch.xlogy(cells, cells) - torch.xlogy(cells, expected)).sum() / max(1, len(pairs))


@torch.no_grad()
def measure(params, config, tokens, pairs, senses, batch=1000):
    """{"loss": nats, "accuracy", "information": nats, "by_pair": accuracies, NaN where a pair does not occur}."""
    logits = torch.cat([sense_model(*parts, params, config) for parts in zip(tokens.split(batch), pairs.split(batch))])
    guesses = logits.argmax(-1)
    right = (guesses == senses).double()
    number = torch.bincount(pairs, minlength=config.pairs)
    by_pair = torch.bincount(pairs, right, minlength=config.pairs) / number
    return {
        "loss": float(cross_entropy(logits, senses, reduction="sum")) / len(pairs),
        "accuracy": float(right.mean()),
        "information": float(mutual_information(pairs, senses, guesses, config.pairs)),
        "by_pair": by_pair.tolist(),
    }
