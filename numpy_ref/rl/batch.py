"""Rollouts as batches: several joined, some rows chosen, the order in which rows are learnt from."""

import numpy as np

from numpy_ref.rng import STREAM_MINIBATCH, permuted


def joined(batches):
    """Several batches of rows as one. Arrays with an axis of tokens are padded behind: ids with 0, masks with False, what
    a sampler kept with True; what one of them lacks (None) is missing from the whole.

    batches: list of {name: (B, ...) array or None}, all with the same names -> {name: array or None}.
    """
    if len(batches) == 1:
        return batches[0]
    found = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        found[name] = None if any(part is None for part in parts) else np.concatenate(_padded(parts, name == "kept"))
    return found


def chosen(batch, rows):
    """The rows numbered in ``rows`` (n,), without columns that none of them needs -> a batch."""
    longest = int(np.max(batch["starts"][rows] + batch["lengths"][rows]))

    def rows_of(name, value):
        value = value[rows]
        return value[:, : longest - (name != "tokens")] if value.ndim > 1 else value  # advantages of one column keep it

    return {name: None if value is None else rows_of(name, value) for name, value in batch.items()}


def minibatch_rows(rows, minibatches, seed, number):
    """A random order of range(rows), in ``minibatches`` parts whose sizes differ by at most one.

    number: of the pass, from 0 over the whole run: every pass has an order of its own. -> list of (n,) int64.
    """
    if minibatches == 1:
        return [np.arange(rows)]
    order = np.argsort(permuted(np.arange(rows), rows, seed, STREAM_MINIBATCH + number))
    return np.array_split(order, minibatches)


def _padded(parts, filling):
    if parts[0].ndim == 1:
        return parts
    width = max(part.shape[1] for part in parts)

    def widened(part):
        wide = np.full((len(part), width, *part.shape[2:]), filling, part.dtype)
        wide[:, : part.shape[1]] = part
        return wide

    return [widened(part) for part in parts]
