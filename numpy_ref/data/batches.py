"""Batches of next-token examples, cut from one long row of tokens."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_ORDER, permuted

IGNORED = -100  # a target that is none


def windows(length, context, stride=1):
    """How many windows of context + 1 tokens start at multiples of ``stride`` in ``length`` tokens."""
    return max(0, (length - context - 1) // stride + 1)


def batch(tokens, position, batch_size, context, seed, stride=1, rank=0, world=1):
    """Samples number position, ..., position + batch_size - 1 of an endless, shuffled run over the tokens.

    With W windows, sample n belongs to epoch n // W and is window ``permuted(n % W)`` in that epoch's own order, so
    every epoch shows every window once and the position alone says where a run stands. The next batch is at
    position + batch_size, however many processes share it: process ``rank`` of ``world`` takes the samples from
    rank batch_size // world on, so that all of them together, in order, have the batch of one process.

    tokens: (n,) of whole numbers, an array or a memory map of which only the windows are read.
    Returns inputs and targets, both (B, context) int64, B = batch_size for one process; targets are the inputs one
    token later. Raises UserError when the tokens are fewer than one window, and for a batch smaller than ``world``.
    """
    starts = _starts(len(tokens), position, batch_size, context, seed, stride, rank, world)
    chosen = np.asarray(tokens[starts[:, None] + np.arange(context + 1)]).astype(np.int64)
    return chosen[:, :-1], chosen[:, 1:]


def packed_batch(tokens, borders, position, batch_size, context, seed, rank=0, world=1):
    """``batch`` for documents that must not see each other: the tokens cut into rows side by side, in shuffled order.

    borders: (documents + 1,) rising: document d is tokens[borders[d] : borders[d + 1]]. An epoch has every row once.
    Returns inputs and targets as ``batch`` does, and documents (B, context) int64: the number of each input's document,
    counted from 0 in each row. The target of a document's last token would be the first of the next: it is -100, which
    ``cross_entropy`` ignores.
    """
    starts = _starts(len(tokens), position, batch_size, context, seed, context, rank, world)
    index = starts[:, None] + np.arange(context + 1)
    chosen = np.asarray(tokens[index]).astype(np.int64)
    document = np.searchsorted(borders, index, side="right") - 1
    targets = np.where(document[:, 1:] == document[:, :-1], chosen[:, 1:], IGNORED)
    return chosen[:, :-1], targets, document[:, :-1] - document[:, :1]


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


def _starts(length, position, batch_size, context, seed, stride, rank, world):
    """Where the windows of this process begin in the tokens: (B,)."""
    count = windows(length, context, stride)
    if count == 0:
        raise UserError(
            f"{length} tokens are too few for a context of {context}: at least {context + 1} are needed; "
            "take a longer text or a smaller context"
        )
    if not 0 <= rank < world <= batch_size:
        raise UserError(f"process {rank} of {world} has no part in a batch of {batch_size}; take a larger batch")
    sample = position + np.arange(rank * batch_size // world, (rank + 1) * batch_size // world)
    epochs, places = sample // count, sample % count
    window = np.empty_like(sample)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        window[here] = permuted(places[here], count, seed, STREAM_ORDER + int(epoch))
    return window * stride
