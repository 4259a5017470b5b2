"""Rows of tokens for answers of unequal lengths."""

import torch

from numpy_ref.errors import UserError
from torch_impl.data.packing import best_fit_decreasing, row_width
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


def packed(texts, context, features):
    """(tokens, documents, ends) with several texts in a row, by best fit decreasing, in rows of the width that costs least.

    Shapes: B texts of ids (n,), arrays or tensors -> tokens (R, T) int64; documents (R, T) int64, the text's number or -1;
    ends (B, 2) int64 in the order of the texts. UserError for an empty text and one longer than ``context``.
    """
    texts = [torch.as_tensor(text) for text in texts]
    lengths = torch.tensor([len(text) for text in texts])
    width = row_width(lengths, context, features)
    row, start = best_fit_decreasing(lengths, width)
    first = row * width + start
    number = torch.repeat_interleave(torch.arange(len(texts)), lengths)
    place = torch.arange(len(number)) + (first - lengths.cumsum(0) + lengths)[number]
    shape = int(row.max()) + 1, width
    tokens = torch.zeros(shape, dtype=torch.int64)
    documents = torch.full(shape, -1)
    tokens.view(-1)[place], documents.view(-1)[place] = torch.cat(texts).long(), number
    return tokens, documents, torch.stack((row, start + lengths - 1), 1)
