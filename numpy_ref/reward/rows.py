"""Answers as rows of tokens, and the order in which comparisons are shown."""

import numpy as np

from numpy_ref.data.packing import best_fit_decreasing, row_width
from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_ORDER, permuted


def shuffled(position, count, size, seed):
    """Which of ``size`` items are samples number position, ..., position + count - 1 of an endless, shuffled run.

    Sample n is item ``permuted(n % size)`` of epoch n // size: every epoch shows each item once, and the position alone
    says where a run stands. -> (count,) int64.
    """
    sample = position + np.arange(count)
    item = np.empty(count, np.int64)
    for epoch in np.unique(sample // size):
        here = sample // size == epoch
        item[here] = permuted(sample[here] % size, size, seed, STREAM_ORDER + int(epoch))
    return item


def padded(texts, left=False):
    """Texts as rows of one length, filled up on the right or on the left.

    texts: list of ids (n,) -> tokens (B, T) int64, padding 0; documents (B, T) int64 as ``transformer`` takes them, 0
    for the text and -1 for padding; ends (B, 2) int64, row and column of each text's last token.
    Raises UserError for a text without tokens.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    if not lengths.all():
        raise UserError(f"text {int(np.argmin(lengths))} of the batch has no tokens; every text needs one to be judged at")
    rows, width = len(lengths), int(np.max(lengths))
    before = width - lengths[:, None] if left else 0
    place = np.arange(width)
    there = (place >= before) & (place < before + lengths[:, None])
    tokens = np.zeros((rows, width), np.int64)
    tokens[there] = np.concatenate(texts)  # a mask goes through its places row by row, as the texts come
    last = np.full(rows, width - 1) if left else lengths - 1
    return tokens, np.where(there, 0, -1), np.stack((np.arange(rows), last), axis=1)


def packed(texts, context, features):
    """Texts as few rows, several side by side: answers differ in length, and padding them costs as much as reading them.

    Rows are as wide as is cheapest for a model of width ``features`` (``row_width``), at most ``context``.

    texts: list of ids (n,) -> tokens (R, T) int64, padding 0; documents (R, T) int64, the number of the text, -1 for
    padding; ends (B, 2) int64 as of ``padded``, in the order of the texts. Raises UserError for a text without tokens, and
    for one that is longer than ``context``.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    width = row_width(lengths, context, features)
    row, start = best_fit_decreasing(lengths, width)
    tokens = np.zeros((int(np.max(row)) + 1, width), np.int64)
    documents = np.full(tokens.shape, -1)
    for number, text in enumerate(texts):
        here = slice(start[number], start[number] + lengths[number])
        tokens[row[number], here], documents[row[number], here] = text, number
    return tokens, documents, np.stack((row, start + lengths - 1), axis=1)
