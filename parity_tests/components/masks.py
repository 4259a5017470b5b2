"""Declarations of document_positions, document_runs, visible_keys and alibi_bias."""

import numpy as np

import numpy_ref.model.masks as numpy_masks
import torch_impl.model.masks as torch_masks
from parity_tests.harness.declaration import Bug, Component


def draw_documents(source):
    rows, length = source.size(5), source.size()
    ids = np.sort(source.rng.integers(-1, source.choice(1, 3, 9), (rows, length)), axis=1)
    if source.flag():  # padding on the right, and an id that comes back
        ids = ids[:, ::-1].copy()
        ids[:, : length // 3] = 2
    source.event("padding", bool((ids < 0).any()))
    source.event("several documents", bool((np.diff(ids, axis=1) != 0).any()))
    source.event("returning", returning(ids))
    return source.case({"documents": ids})


DOCUMENT_POSITIONS = Component(
    name="document_positions",
    numpy=numpy_masks.document_positions,
    torch=torch_masks.document_positions,
    draw=draw_documents,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("padding", "several documents"),
    bugs=(
        Bug("positions go on", "numpy", "np.where(begins, place, 0)", "0 * np.where(begins, place, 0)"),
        Bug("from 1", "numpy", "place - start)", "place - start + 1)"),
        Bug("padding at position 0", "numpy", "-1, place - start", "0, place - start"),
        Bug("a document begins a token late", "numpy", "begins[:, 1:] = documents[:, 1:]", "begins[:, 1:] = np.roll(documents, 1, axis=1)[:, 1:]"),
        Bug("only larger ids begin a document", "torch", "!= 0", "> 0"),
        Bug("padding counted", "torch", "documents < 0, -1", "documents < -1, -1"),
    ),
)


def returning(ids):
    """Whether some row has an id, not of padding, that comes back after another."""
    changes = [row[np.append(True, np.diff(row) != 0)] for row in ids]
    return any(len(row) > len(set(row)) for row in ([i for i in row if i >= 0] for row in changes))


DOCUMENT_RUNS = Component(
    name="document_runs",
    numpy=numpy_masks.document_runs,
    torch=torch_masks.document_runs,
    draw=draw_documents,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("padding", "several documents", "returning"),
    bugs=(
        Bug("the ids themselves", "numpy", "np.cumsum(begins, axis=1))", "documents)"),
        Bug("counted down the rows", "numpy", "axis=1", "axis=0"),
        Bug("padding numbered", "numpy", "documents < 0, -1", "documents < -1, -1"),
        Bug("only larger ids begin a document", "torch", "!= 0", "> 0"),
        Bug("numbers from 1", "torch", "changes.cumsum(1)", "(changes.cumsum(1) + 1)"),
        Bug("a document begins a token early", "torch", "(1, 0)", "(0, 1)"),
    ),
)


def draw_positions(source):
    rows, queries, keys = source.size(4), source.size(17), source.size(33)
    ring = source.flag()  # keys in any order, with empty slots, as a cache has them
    key_positions = np.broadcast_to(np.arange(keys), (rows, keys)).copy()
    if ring:
        key_positions = source.rng.permuted(key_positions, axis=1)
        key_positions[source.rng.random((rows, keys)) < 0.3] = -1
    query_positions = source.rng.integers(-1, keys + 5, (rows, queries))
    source.event("empty slots", bool((key_positions < 0).any()))
    source.event("padding", bool((query_positions < 0).any()))
    return rows, query_positions, key_positions


def draw_visible(source):
    rows, query_positions, key_positions = draw_positions(source)
    window = source.choice(0, 1, 2, 5, key_positions.shape[1])
    sinks = source.choice(0, 1, 4)
    arrays = {"query_positions": query_positions, "key_positions": key_positions}
    if source.flag():
        arrays["query_documents"] = source.rng.integers(0, 2, query_positions.shape)
        arrays["key_documents"] = source.rng.integers(0, 2, key_positions.shape)
    for event, happens in {
        "window 1": window == 1, "window": window > 1, "no window": window == 0, "sinks": window > 0 and sinks > 0,
        "documents": len(arrays) == 4,
    }.items():  # fmt: skip
        source.event(event, happens)
    return source.case(arrays, window=window, sinks=sinks)


VISIBLE_KEYS = Component(
    name="visible_keys",
    numpy=numpy_masks.visible_keys,
    torch=torch_masks.visible_keys,
    draw=draw_visible,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("window 1", "window", "no window", "sinks", "documents", "empty slots", "padding"),
    bugs=(
        Bug("window of W + 1", "numpy", "query - key < window", "query - key <= window"),
        Bug("window of W - 1", "numpy", "query - key < window", "query - key < window - 1"),
        Bug("a query does not see itself", "numpy", "key <= query", "key < query"),
        Bug("one step ahead", "numpy", "key <= query", "key <= query + 1"),
        Bug("empty slots seen", "numpy", "(key >= 0) &", ""),
        Bug("one sink too many", "numpy", "key < sinks", "key <= sinks"),
        Bug("sinks without causality", "numpy", "visible &= (query - key < window) | (key < sinks)", "visible = (visible & (query - key < window)) | (key < sinks)"),
        Bug("documents see each other", "numpy", "query_documents is not None", "False"),
        Bug("window of W + 1 on the fast side", "torch", "near = ahead < window", "near = ahead < window + 1"),
        Bug("sinks forgotten", "torch", "near if sinks == 0 else", "near if True else"),
        Bug("documents taken for others", "torch", "query_documents.unsqueeze(-1) ==", "query_documents.unsqueeze(-1) >="),
        Bug("the future", "torch", "(ahead >= 0)", "(ahead <= 0)"),
    ),
)


def draw_bias(source):
    _, query_positions, key_positions = draw_positions(source)
    slopes = source.rng.uniform(0.01, 1, source.integer(1, 5))
    return source.case({"query_positions": query_positions, "key_positions": key_positions, "slopes": slopes})


ALIBI_BIAS = Component(
    name="alibi_bias",
    numpy=numpy_masks.alibi_bias,
    torch=torch_masks.alibi_bias,
    draw=draw_bias,
    elementwise=True,
    compiles=False,
    events=("empty slots", "padding"),
    bugs=(
        Bug("far keys liked better", "numpy", "-slopes[", "slopes["),
        Bug("not cut at the query", "numpy", "np.maximum(query_positions[:, :, None] - key_positions[:, None, :], 0)", "query_positions[:, :, None] - key_positions[:, None, :]"),
        Bug("distance from 1", "numpy", "key_positions[:, None, :], 0)", "key_positions[:, None, :] + 1, 0)"),
        Bug("one slope for all", "torch", "-slopes.view(-1, 1, 1)", "-slopes.mean().expand(len(slopes)).view(-1, 1, 1) * (1 + 1e-3)"),
        Bug("squared distance", "torch", "distance.unsqueeze(1) *", "distance.unsqueeze(1) ** 2 *"),
    ),
)

COMPONENTS = (DOCUMENT_POSITIONS, DOCUMENT_RUNS, VISIBLE_KEYS, ALIBI_BIAS)
