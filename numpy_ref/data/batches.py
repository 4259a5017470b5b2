"""Batches of next-token examples, cut from one long row of tokens."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_ORDER, permuted


def windows(length, context, stride=1):
    """How many windows of context + 1 tokens start at multiples of ``stride`` in ``length`` tokens."""
    return max(0, (length - context - 1) // stride + 1)


def batch(tokens, position, batch_size, context, seed, stride=1):
    """Samples number position, ..., position + batch_size - 1 of an endless, shuffled run over the tokens.

    With W windows, sample n belongs to epoch n // W and is window ``permuted(n % W)`` in that epoch's own order, so
    every epoch shows every window once and the position alone says where a run stands. The next batch is at
    position + batch_size.

    tokens: (n,) of whole numbers, an array or a memory map of which only the windows are read.
    Returns inputs and targets, both (batch_size, context) int64; targets are the inputs one token later.
    Raises UserError when the tokens are fewer than one window.
    """
    count = windows(len(tokens), context, stride)
    if count == 0:
        raise UserError(
            f"{len(tokens)} tokens are too few for a context of {context}: at least {context + 1} are needed; "
            "take a longer text or a smaller context"
        )
    sample = position + np.arange(batch_size)
    epochs, places = sample // count, sample % count
    window = np.empty_like(sample)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        window[here] = permuted(places[here], count, seed, STREAM_ORDER + int(epoch))
    index = (window * stride)[:, None] + np.arange(context + 1)
    chosen = np.asarray(tokens[index]).astype(np.int64)
    return chosen[:, :-1], chosen[:, 1:]


def evaluation_windows(tokens, context, batch_size, limit=None):
    """Go through the tokens once, in order: yields inputs and targets (B, T) int64, B <= batch_size, T <= context.

    Windows do not overlap, so every token but the first is a target exactly once; the last, shorter window comes alone.
    limit: at most that many targets. Raises UserError where there is nothing to predict.
    """
    targets = len(tokens) - 1 if limit is None else min(limit, len(tokens) - 1)
    if targets < 1:
        raise UserError(
            f"{len(tokens)} tokens with a limit of {limit} leave nothing to evaluate on; take a text of at least 2 "
            "tokens and a limit above 0"
        )
    whole = targets // context
    for first in range(0, whole, batch_size):
        starts = np.arange(first, min(first + batch_size, whole)) * context
        chosen = np.asarray(tokens[starts[:, None] + np.arange(context + 1)]).astype(np.int64)
        yield chosen[:, :-1], chosen[:, 1:]
    if targets % context:
        rest = np.asarray(tokens[whole * context : targets + 1]).astype(np.int64)[None]
        yield rest[:, :-1], rest[:, 1:]
