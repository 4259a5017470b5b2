"""Lesson 3: windows, sinks and documents: who may see whom.

    0 <= key <= query                          nothing of the future; a position of -1 is nobody
    with a window (window > 0):                the last ``window`` keys, the query's own among them, and the keys at
                                               positions below ``sinks``
    where documents are given:                 the same document

    query_positions (B, Tq), key_positions (B, Tk), documents of the same shapes or None -> bool (B, 1, Tq, Tk)

One rule for training, for caches and for padding: it needs positions only, not where the keys lie.
"""

import numpy as np


def visible_keys(query_positions, key_positions, window=0, sinks=0, query_documents=None, key_documents=None):
    raise NotImplementedError
