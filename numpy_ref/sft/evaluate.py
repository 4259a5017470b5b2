"""How surprised a model is by the answers that it should give."""

import numpy as np

from numpy_ref.data.packing import conversation_batch
from numpy_ref.model.transformer import transformer
from numpy_ref.training.losses import cross_entropy


def conversation_losses(params, config, ids, weights, borders, batch_size):
    """The loss of each conversation, without dropout: losses and their weights, each summed over its tokens.

    The mean of a conversation is losses / weights; exp of that is the perplexity of its answers, where answers alone have
    a weight. Over several conversations it is the sum of the losses over the sum of the weights.

    ids, weights (N,), borders (C + 1,) as in ``conversation_batch`` -> losses, weights (C,) float64.
    """
    lengths = np.diff(borders) - 1
    by_length = np.argsort(lengths, kind="stable")  # rows of about one length: little is filled up
    losses, share = np.zeros((2, len(lengths)))
    for first in range(0, len(lengths), batch_size):
        chosen = by_length[first : first + batch_size]
        width = int(lengths[chosen].max())
        inputs, targets, own, _ = conversation_batch(ids, weights, borders, chosen, width, packed=False)
        logits, _ = transformer(inputs, params, config)
        loss, _ = cross_entropy(logits, targets, reduction="none", weights=own)
        losses[chosen], share[chosen] = np.sum(loss, axis=1), np.sum(own, axis=1)
    return losses, share
