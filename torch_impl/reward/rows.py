"""Rows of tokens for answers of unequal lengths."""

import torch

from numpy_ref.errors import UserError
from torch_impl.rng import STREAM_ORDER, permuted


def shuffled(position, count, size, seed):
    """Items of ``size`` that the samples from number ``position`` on are; each epoch is a permutation of its own, so that
    the position is all that a resumed run needs. Shapes: -> (count,) int64."""
    parts, end = [], position + count
    while position < end:
        epoch, first = divmod(position, size)
        part = min(size - first, end - position)
        parts.append(permuted(torch.arange(first, first + part), size, seed, STREAM_ORDER + epoch))
        position += part
    return torch.cat(parts)


def padded(texts, left=False):
    """(tokens, documents, ends) of a batch of texts, padded on the right or left to the longest.

    Shapes: B texts of ids (n,), arrays or tensors -> tokens (B, T) int64; documents (B, T) int64, -1 where there is
    padding, else 0; ends (B, 2) int64: row and column of the last token. UserError if a text is empty.
    """
    texts = [torch.as_tensor(text) for text in texts]
    lengths = torch.tensor([len(text) for text in texts])
    if not lengths.all():
        raise UserError(f"text {int(lengths.argmin())} of the batch is empty; a reward is read at a text's last token")
    width = int(lengths.max())
    column = torch.arange(width)
    there = column >= width - lengths[:, None] if left else column < lengths[:, None]
    tokens = torch.zeros(len(texts), width, dtype=torch.int64).masked_scatter_(there, torch.cat(texts).long())
    last = torch.full_like(lengths, width - 1) if left else lengths - 1
    return tokens, there.long() - 1, torch.stack((torch.arange(len(texts)), last), 1)
