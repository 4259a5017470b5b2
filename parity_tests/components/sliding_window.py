"""Declaration of sliding_window_attention: the reference writes out every score, the fast side computes a band."""

import numpy as np

import numpy_ref.model.attention as numpy_attention
import torch_impl.model.attention as torch_attention
from numpy_ref.model.masks import alibi_bias, document_positions, document_runs, visible_keys
from parity_tests.components.attention import cancellation as attention_cancellation
from parity_tests.components.masks import returning
from parity_tests.harness.declaration import Bug, Case, Component

MAGNITUDES = ("one", "one", "small", "sixteen", "heavy", "ties", "constant", "zero")


def draw(source):
    batch, shared, group = source.integer(1, 2), source.integer(1, 2), source.choice(1, 2)
    length = source.choice(33, 48, 50, 17, 70, 5, 1, 16)
    window = source.choice(3, 1, 16, 17, 2, 5, 40, 80)
    sinks = source.choice(0, 0, 2, 20)
    width, value_width = source.size(9), source.size(9)
    ids = None
    if source.choice(False, False, True):
        ids = np.sort(source.rng.integers(-1, 3, (batch, length)), axis=1)
        if source.flag():  # an id that comes back is another document
            ids[:, -(length // 3) :] = ids[:, :1]
    arrays = {
        "query": source.array("query", (batch, shared * group, length, width), MAGNITUDES),
        "key": source.array("key", (batch, shared, length, width), MAGNITUDES),
        "value": source.array("value", (batch, shared, length, value_width)),
        "documents": ids,
        "slopes": source.rng.uniform(0.1, 1, shared * group) if source.choice(False, False, True) else None,
    }
    softcap = source.choice(0.0, 0.0, 2.0)
    for event, happens in {
        "blocks": length > 2 * max(16, window), "window 1": window == 1, "window of the text": window >= length,
        "hardly longer than the window": window < length <= window + 20 and ids is None and arrays["slopes"] is None,
        "sinks": sinks > 0, "more sinks than window": sinks > window,
        "documents": ids is not None, "returning": ids is not None and returning(ids), "padding": ids is not None and bool((ids < 0).any()), "grouped": group > 1,
        "alibi": arrays["slopes"] is not None, "softcap": softcap > 0, "not a multiple": length % 16 != 0,
    }.items():  # fmt: skip
        source.event(event, happens)
    return source.case(arrays, window=window, sinks=sinks, scale=source.choice(None, 0.3), softcap=softcap)


def cancellation(arguments, dy, unit):
    """That of the attention whose mask this is."""
    documents = arguments["documents"]
    if documents is None:
        documents = np.zeros((1, arguments["query"].shape[-2]), np.int64)
    at, documents = document_positions(documents), document_runs(documents)
    mask = visible_keys(at, at, arguments["window"], arguments["sinks"], documents, documents)
    bias = None if arguments["slopes"] is None else alibi_bias(at, at, arguments["slopes"])
    same = {name: arguments[name] for name in ("query", "key", "value", "scale", "softcap")}
    return attention_cancellation(same | {"mask": mask, "causal": False, "bias": bias}, dy, unit)


def shape(batch, heads, length, width, window):
    def build(rng):
        arrays = {name: rng.standard_normal((batch, heads, length, width)) for name in ("query", "key", "value")}
        return Case(arrays, {"window": window})

    return build


def flops(case):
    query = case.arrays["query"]
    return 4 * query.size * min(case.static["window"], query.shape[-2])


SLIDING_WINDOW = Component(
    name="sliding_window_attention",
    numpy=numpy_attention.sliding_window_attention,
    torch=torch_attention.sliding_window_attention,
    draw=draw,
    differentiable=("query", "key", "value"),
    cancellation=cancellation,
    events=(
        "blocks", "window 1", "window of the text", "hardly longer than the window", "sinks", "more sinks than window", "documents", "returning", "padding",
        "grouped", "alibi", "softcap", "not a multiple", "strided",
    ),
    weight=3,
    shapes={"small": shape(1, 2, 40, 8, 5), "wide": shape(2, 6, 2048, 64, 256)},
    flops=flops,
    bytes=lambda case, size: 4 * size * case.arrays["query"].size,
    bugs=(
        Bug("window of W + 1", "numpy", "visible_keys(positions, positions, window,", "visible_keys(positions, positions, window + 1,"),
        Bug("an id that comes back taken for the same document", "numpy", "document_runs(documents)", "documents", needs=("documents", "returning")),
        Bug("documents see each other", "numpy", "sinks, documents, documents)", "sinks)", needs=('documents',)),
        Bug("sinks forgotten", "numpy", "window, sinks, documents", "window, 0, documents"),
        Bug("sinks of the row, not of the document", "numpy", "positions, documents = document_positions(documents),", "positions, documents = np.where(documents < 0, -1, np.arange(documents.shape[1])),", needs=('documents', 'sinks')),
        Bug("softcap not passed on", "numpy", "False, scale, softcap, bias)", "False, scale, 0.0, bias)", needs=('softcap',)),
        Bug("slopes not passed on", "numpy", "None if slopes is None else", "None if True else", needs=('alibi',)),
        Bug("reach one block short", "torch", "reach = -(-(window - 1) // block)", "reach = (window - 1) // block", needs=('blocks',)),
        Bug("whole text taken for its window", "torch", "length <= window and slopes is None", "length <= window + 20 and slopes is None", needs=("hardly longer than the window",)),
        Bug("own block left out of the band", "torch", "for back in range(reach, -1, -1)", "for back in range(reach, 0, -1)", "_band"),
        Bug("sinks seen twice", "torch", "copies = torch.where(copies < begins[:, None], copies, -1)", "pass", "_banded", needs=('sinks', 'blocks')),
        Bug("blocks joined in the wrong order", "torch", "y.unflatten(0, (batch, count)).transpose(1, 2).flatten(2, 3)", "y.unflatten(0, (batch, count)).transpose(1, 2).transpose(2, 3).flatten(2, 3)", "_banded"),
        Bug("rows of the batch share the first's documents", "torch", "_blocks(documents, block, -1).flatten(0, 1)", "_blocks(documents[:1].expand_as(documents), block, -1).flatten(0, 1)", "_banded", needs=('documents', 'blocks')),
        Bug("window from the block, not from the query", "torch", "mask = visible_keys(queries_at, keys_at, window,", "mask = visible_keys(queries_at, keys_at, block,", "_banded", needs=('blocks',)),
    ),
)

COMPONENTS = (SLIDING_WINDOW,)
