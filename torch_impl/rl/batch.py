"""Rows of rollouts, joined, chosen and shuffled."""

import torch
import torch.nn.functional as F

from torch_impl.rng import STREAM_MINIBATCH, permuted


def joined(batches):
    """One batch of several: token axes are padded behind with 0, or True for what samplers kept.

    Shapes: list of {name: (B, ...) or None} -> {name: (sum of B, ...) or None}.
    """
    if len(batches) == 1:
        return batches[0]
    found = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        found[name] = None if any(part is None for part in parts) else torch.cat(_padded(parts, name == "kept"))
    return found


def chosen(batch, rows):
    """A batch of the rows numbered in ``rows`` (n,), cut to the longest of them."""
    longest = int((batch["starts"][rows] + batch["lengths"][rows]).max())
    found = {}
    for name, value in batch.items():
        value = None if value is None else value[rows]
        if value is not None and value.ndim > 1:
            value = value[:, : longest - (name != "tokens")]  # advantages of one column keep it
        found[name] = value
    return found


def minibatch_rows(rows, minibatches, seed, number):
    """The rows of each minibatch of pass ``number`` in a random order, as even as can be: list of (n,) int64."""
    if minibatches == 1:
        return [torch.arange(rows)]
    order = torch.argsort(permuted(torch.arange(rows), rows, seed, STREAM_MINIBATCH + number))
    return list(torch.tensor_split(order, minibatches))


def _padded(parts, filling):
    if parts[0].ndim == 1:
        return parts
    width = max(part.shape[1] for part in parts)
    ends = [(0, 0) * (part.ndim - 2) + (0, width - part.shape[1]) for part in parts]
    return [F.pad(part, end, value=filling) for part, end in zip(parts, ends)]
