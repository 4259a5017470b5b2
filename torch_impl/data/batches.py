"""Batches of shifted windows, in an order that follows from a seed and a position alone."""

from functools import lru_cache

import numpy as np
import torch

from numpy_ref.errors import UserError
from torch_impl.rng import STREAM_ORDER, permuted

IGNORED = -100  # as in ``cross_entropy``
_BLOCK = 4096  # samples whose windows are drawn at once: a draw costs the same 5 ms for 32 samples as for 4096


def windows(length, context, stride=1):
    """How many windows of context + 1 tokens, ``stride`` apart, fit into ``length`` tokens (0 if none)."""
    return max(0, (length - context - 1) // stride + 1)


def batch(tokens, position, batch_size, context, seed, stride=1, rank=0, world=1):
    """The batch that begins at sample number ``position``; the next one begins at position + batch_size.

    An epoch shows every window once, in a permutation of its own; sample n is in epoch n // windows. So the position is
    all that has to be saved to resume, on any number of processes: process ``rank`` of ``world`` reads its own
    contiguous part of the batch, and the parts one after the other are the batch that a single process reads.
    Shapes: tokens (N,), an integer array (a memory map stays on disk) or tensor -> inputs and targets (B, context)
    int64, targets one token later, on the device of a tensor; B = batch_size where world is 1. UserError if no window
    fits, or if the batch has fewer sequences than there are processes.
    """
    return _gather(tokens, _starts(len(tokens), position, batch_size, context, seed, stride, rank, world), context)


def packed_batch(tokens, borders, position, batch_size, context, seed, rank=0, world=1):
    """A batch of rows that share no token, with the document of each token, so that attention can stop at borders.

    Row n of an epoch covers tokens n * context to (n + 1) * context, in a permuted order; document d of the corpus is
    tokens borders[d] to borders[d + 1] - 1.
    Shapes: tokens (N,), borders (D + 1,) rising integers -> inputs, targets and documents, each (B, context) int64.
    documents count from 0 in each row; a target that lies in the next document is -100 (``cross_entropy`` skips it).
    """
    starts = _starts(len(tokens), position, batch_size, context, seed, context, rank, world)
    inputs, targets = _gather(tokens, starts, context)
    places = starts[:, None] + torch.arange(context + 1)
    # In NumPy: only the few pages of a memory map that a binary search touches are read.
    documents = torch.from_numpy(np.searchsorted(borders, places.numpy(), side="right"))
    crossed = documents[:, 1:] != documents[:, :-1]
    documents = documents[:, :-1] - documents[:, :1]
    return inputs, targets.masked_fill(crossed.to(targets.device), IGNORED), documents.to(inputs.device)


def evaluation_windows(tokens, context, batch_size, limit=None):
    """Batches (inputs, targets) that predict each token after the first once, in order; at most ``limit`` of them.

    Full windows of ``context`` tokens come ``batch_size`` at a time, the last shorter window alone. Shapes: tokens (N,)
    -> (B, T) int64 each. UserError if there is nothing to predict.
    """
    total = len(tokens) - 1 if limit is None else min(len(tokens) - 1, limit)
    if total < 1:
        raise UserError(
            f"{len(tokens)} tokens (limit {limit}) leave nothing to predict; give at least 2 tokens and a limit above 0"
        )
    full, rest = divmod(total, context)
    for first in range(0, full, batch_size):
        yield _gather(tokens, torch.arange(first, min(first + batch_size, full)) * context, context)
    if rest:
        yield _gather(tokens, torch.tensor([full * context]), rest)


def _starts(length, position, batch_size, context, seed, stride, rank, world):
    """The first token of each window that this process reads. Shapes: -> (B,) int64."""
    count = windows(length, context, stride)
    if count == 0:
        raise UserError(
            f"{length} tokens are too few for a context of {context}: a window takes {context + 1}; "
            f"give more text or a shorter context"
        )
    if not 0 <= rank < world <= batch_size:
        raise UserError(f"a batch of {batch_size} has no part for process {rank} of {world}; give a larger batch")
    first, end = (position + part * batch_size // world for part in (rank, rank + 1))
    order = []
    while first < end:  # mostly once: a batch rarely crosses from one block or epoch to the next
        epoch, number = divmod(first, count)
        order.append(_order(number // _BLOCK, epoch, count, seed)[number % _BLOCK :][: end - first])
        first += len(order[-1])
    return torch.cat(order) * stride


@lru_cache(maxsize=8)
def _order(block, epoch, count, seed):
    """The windows of samples block * _BLOCK and following of an epoch. Shapes: -> (_BLOCK,) int64, at the end fewer."""
    numbers = torch.arange(block * _BLOCK, min((block + 1) * _BLOCK, count))
    return permuted(numbers, count, seed, STREAM_ORDER + epoch)


def _gather(tokens, starts, context):
    """Windows by index: only what the batch shows is read. Shapes: starts (B,) -> inputs, targets (B, context)."""
    index = starts[:, None] + torch.arange(context + 1)
    if torch.is_tensor(tokens):
        rows = tokens[index.to(tokens.device)].long()
    else:
        rows = torch.from_numpy(tokens[index.numpy()].astype(np.int64))
    return rows[:, :-1], rows[:, 1:]
