"""Who may see whom, from positions and documents alone: one rule for training, for caches and for padding."""

import numpy as np


def document_positions(documents):
    """The place of every token within its own document, when several documents share a row.

    A document is a run of equal ids; a negative id is padding, whose position is -1.

    documents (B, T) of whole numbers -> (B, T) int64.
    """
    place = np.arange(documents.shape[1])
    begins = np.ones(documents.shape, bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    start = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    return np.where(documents < 0, -1, place - start).astype(np.int64)


def document_runs(documents):
    """Numbers the documents of each row from 0 on: an id that comes back after another is a new document.

    documents (B, T) of whole numbers -> (B, T) int64; padding, a negative id, becomes -1.
    """
    begins = np.zeros(documents.shape, bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return np.where(documents < 0, -1, np.cumsum(begins, axis=1))


def visible_keys(query_positions, key_positions, window=0, sinks=0, query_documents=None, key_documents=None):
    """Which keys each query may see.

        0 <= key <= query                               nothing of the future; a position of -1 is nobody
        query - key < window, or key < sinks            with a window: its last ``window`` keys, itself among them, and
                                                        the first tokens, the attention sinks of arXiv:2309.17453
        same document                                   where documents are given, as ``document_runs`` numbers them

    Shapes: positions and documents (B, Tq) of the queries, (B, Tk) of the keys -> bool (B, 1, Tq, Tk), True = may see.
    The axis of length 1 is that of the heads.
    """
    query, key = query_positions[:, :, None], key_positions[:, None, :]
    visible = (key >= 0) & (key <= query)
    if window:
        visible &= (query - key < window) | (key < sinks)
    if query_documents is not None:
        visible &= query_documents[:, :, None] == key_documents[:, None, :]
    return visible[:, None]


def alibi_bias(query_positions, key_positions, slopes):
    """What ALiBi adds to the scores: every head likes near keys better (arXiv:2108.12409, section 3).

        bias = -slope * (query - key),    0 for keys in the future, which are hidden anyway

    Shapes: positions (B, Tq) and (B, Tk), slopes (H,) -> (B, H, Tq, Tk), in the format of the slopes.
    """
    distance = np.maximum(query_positions[:, :, None] - key_positions[:, None, :], 0).astype(slopes.dtype)
    return -slopes[:, None, None] * distance[:, None]
