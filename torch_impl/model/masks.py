"""Visibility from positions and documents."""

import torch
import torch.nn.functional as F


def document_positions(documents):
    """Index of each token in its document, a run of equal ids; -1 where the id is negative (padding).

    Shapes: documents (B, T) integers -> (B, T) int64.
    """
    place = torch.arange(documents.shape[1], device=documents.device)
    changes = torch.ones_like(documents, dtype=torch.bool)
    changes[:, 1:] = documents.diff(dim=1) != 0
    start = torch.where(changes, place, 0).cummax(1).values
    return torch.where(documents < 0, -1, place - start)


def document_runs(documents):
    """The number of each token's document in its row, a document being a run of equal ids; -1 where the id is negative.

    Shapes: documents (B, T) integers -> (B, T) int64.
    """
    changes = F.pad(documents.diff(dim=1) != 0, (1, 0))
    return changes.cumsum(1).masked_fill(documents < 0, -1)


def visible_keys(query_positions, key_positions, window=0, sinks=0, query_documents=None, key_documents=None):
    """True where a query may see a key: not in its future, in its window or among the sinks, in its own document
    (which ``document_runs`` numbers).

    A key or a query at position -1 is empty: neither seen nor seeing. ``window`` keys, the query's own place included;
    0 is all. Sinks (arXiv:2309.17453) are the keys at positions below ``sinks``.

    Shapes: positions and documents (B, Tq) and (B, Tk) integers -> (B, 1, Tq, Tk) bool.
    """
    ahead = query_positions.unsqueeze(-1) - key_positions.unsqueeze(-2)
    visible = (ahead >= 0) & (key_positions >= 0).unsqueeze(-2)
    if window > 0:
        near = ahead < window
        visible &= near if sinks == 0 else near | (key_positions < sinks).unsqueeze(-2)
    if query_documents is not None:
        visible &= query_documents.unsqueeze(-1) == key_documents.unsqueeze(-2)
    return visible.unsqueeze(1)


def alibi_bias(query_positions, key_positions, slopes):
    """-slope * distance (arXiv:2108.12409 §3), 0 for keys ahead of the query.

    Shapes: positions (B, Tq) and (B, Tk), slopes (H,) -> (B, H, Tq, Tk) in the format of slopes.
    """
    distance = (query_positions.unsqueeze(-1) - key_positions.unsqueeze(-2)).clamp(min=0)
    return distance.unsqueeze(1) * -slopes.view(-1, 1, 1)
