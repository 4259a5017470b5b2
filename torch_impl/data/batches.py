"""Batches of shifted windows, in an order that follows from a seed and a position alone."""

from functools import lru_cache

import numpy as np
import torch

from numpy_ref.errors import UserError
from torch_impl.rng import STREAM_ORDER, permuted

_BLOCK = 4096  # samples whose windows are drawn at once: a draw costs the same 5 ms for 32 samples as for 4096


def windows(length, context, stride=1):
    """How many windows of context + 1 tokens, ``stride`` apart, fit into ``length`` tokens (0 if none)."""
    return max(0, (length - context - 1) // stride + 1)


def batch(tokens, position, batch_size, context, seed, stride=1):
    """The batch that begins at sample number ``position``; the next one begins at position + batch_size.

    An epoch shows every window once, in a permutation of its own; sample n is in epoch n // windows. So the position is
    all that has to be saved to resume.
    Shapes: tokens (N,), an integer array (a memory map stays on disk) or tensor -> inputs and targets
    (batch_size, context) int64, targets one token later, on the device of a tensor. UserError if no window fits.
    """
    count = windows(len(tokens), context, stride)
    if count == 0:
        raise UserError(
            f"{len(tokens)} tokens are too few for a context of {context}: a window takes {context + 1}; "
            f"give more text or a shorter context"
        )
    order, missing = [], batch_size
    while missing:  # mostly once: a batch rarely crosses from one block or epoch to the next
        epoch, number = divmod(position + batch_size - missing, count)
        order.append(_order(number // _BLOCK, epoch, count, seed)[number % _BLOCK :][:missing])
        missing -= len(order[-1])
    return _gather(tokens, torch.cat(order) * stride, context)


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
