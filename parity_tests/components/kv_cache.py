"""Declarations of the key-value cache: slots, writing, rewinding, rows, and attention over it."""

import numpy as np

import numpy_ref.model.kv_cache as numpy_cache
import torch_impl.model.kv_cache as torch_cache
from parity_tests.components.attention import ATTENTION
from parity_tests.components.multi_head_attention import draw_attention_config
from parity_tests.harness.declaration import DTYPE, Bug, Component
from parity_tests.harness.trees import tree_map


def unchanged(function, arguments):
    """The Torch side writes into the buffers of the cache: it gets copies."""
    return function(**{name: tree_map(copied, value) for name, value in arguments.items()})


def copied(value):
    return value.clone() if hasattr(value, "clone") else value


def draw_slots(source):
    config = draw_attention_config(source, layers=3)
    return source.case({}, config=config, layer=source.integer(0, 2), capacity=source.size(40), slack=source.choice(0, 3))


CACHE_SLOTS = Component(
    name="cache_slots",
    numpy=numpy_cache.cache_slots,
    torch=torch_cache.cache_slots,
    draw=draw_slots,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("window", "sinks"),
    bugs=(
        Bug("one slot too few", "numpy", "config.sinks + window + slack", "config.sinks + window + slack - 1"),
        Bug("one slot too many", "numpy", "config.sinks + window + slack", "config.sinks + window + slack + 1"),
        Bug("no room for the sinks", "numpy", "config.sinks + window + slack", "window + slack"),
        Bug("every layer has a ring", "torch", "config.layer_window(layer)", "config.window"),
        Bug("slack forgotten", "torch", "+ slack)", ")"),
    ),
)


def draw_slot(source):
    slots = source.size(17, least=2)
    sinks = source.integer(0, slots - 1)
    positions = source.rng.integers(-1, 5 * slots, (source.size(4), source.size(17)))
    source.event("padding", bool((positions < 0).any()))
    source.event("round the ring", bool((positions >= 2 * slots).any()))
    return source.case({"positions": positions}, slots=slots, sinks=sinks)


SLOT = Component(
    name="slot",
    numpy=numpy_cache.slot,
    torch=torch_cache.slot,
    draw=draw_slot,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("padding", "round the ring"),
    bugs=(
        Bug("sinks overwritten", "numpy", "sinks + (positions - sinks) % ring", "positions % slots"),
        Bug("ring one too long", "numpy", "max(slots - sinks, 1)", "max(slots - sinks, 1) + 1"),
        Bug("counted from 0 behind the sinks", "numpy", "(positions - sinks) % ring", "positions % ring"),
        Bug("padding in the last slot", "torch", "positions < slots, positions, wrapped", "positions < slots, positions % slots, wrapped"),
        Bug("padding gets a slot", "torch", "positions < slots,", "(positions >= 0) & (positions < slots),"),
    ),
)


def draw_init(source):
    config = draw_attention_config(source, layers=2)
    return source.case({}, config=config, rows=source.integer(1, 3), capacity=source.size(17), dtype=DTYPE, slack=source.choice(0, 2))


INIT_CACHE = Component(
    name="init_cache",
    numpy=numpy_cache.init_cache,
    torch=torch_cache.init_cache,
    draw=draw_init,
    exact=True,
    compiles=False,
    events=("window", "grouped"),
    bugs=(
        Bug("slots at position 0", "numpy", "np.full((rows, slots), -1, np.int64)", "np.full((rows, slots), 0, np.int64)"),
        Bug("a buffer for every query head", "numpy", "config.key_value_heads, slots", "config.heads, slots"),
        Bug("slack forgotten", "numpy", "capacity, slack)", "capacity)"),
        Bug("every layer like the first", "torch", "cache_slots(config, layer,", "cache_slots(config, 0,"),
        Bug("lengths from 1", "torch", "torch.zeros(rows, dtype=torch.int64", "torch.ones(rows, dtype=torch.int64"),
    ),
)


def filled(source, rows, shared, slots, sinks, features, most):
    """A layer's cache after texts of different lengths, and those lengths."""
    lengths = source.rng.integers(0, most + 1, rows)
    layer = {
        "key": source.rng.standard_normal((rows, shared, slots, features)),
        "value": source.rng.standard_normal((rows, shared, slots, features)),
        "positions": np.full((rows, slots), -1, np.int64),
    }
    for row, length in enumerate(lengths):
        for position in range(length):
            layer["positions"][row, int(numpy_cache.slot(np.array(position), slots, sinks))] = position
    return layer, lengths


def chunk_positions(source, lengths, new):
    """Positions (rows, n) of the next tokens, padded at the end where a row has fewer."""
    counts = source.rng.integers(0, new + 1, len(lengths))
    counts[source.rng.integers(len(lengths))] = new
    place = np.arange(new)
    return np.where(place < counts[:, None], lengths[:, None] + place, -1)


def draw_write(source):
    rows, shared, features = source.integer(1, 3), source.integer(1, 2), source.size(9)
    ring = source.flag()
    sinks = source.choice(0, 2) if ring else 0
    slots = sinks + source.choice(1, 3, 8) if ring else 40
    layer, lengths = filled(source, rows, shared, slots, sinks, features, 20)
    new = source.choice(3, 1, 2, 12)
    positions = chunk_positions(source, lengths, new)
    for event, happens in {
        "ring": ring, "one token": new == 1, "longer than the ring": ring and new > slots - sinks, "sinks": sinks > 0,
        "padding": bool((positions < 0).any()),
        "sinks in a long chunk": bool(((positions >= 0) & (positions < sinks)).any()) and new > slots - sinks,
    }.items():  # fmt: skip
        source.event(event, happens)
    arrays = {
        "layer": layer,
        "key": source.array("key", (rows, shared, new, features)),
        "value": source.array("value", (rows, shared, new, features)),
        "positions": positions,
    }
    return source.case(arrays, sinks=sinks)


WRITE_CACHE = Component(
    name="write_cache",
    numpy=numpy_cache.write_cache,
    torch=torch_cache.write_cache,
    draw=draw_write,
    call=unchanged,
    exact=True,
    compiles=False,
    events=("ring", "one token", "longer than the ring", "sinks", "padding"),
    bugs=(
        Bug("padding written", "numpy", "(positions >= 0) & (", "(positions >= -1) & (", "_stays"),
        Bug("what a ring overwrites is written last", "numpy", "row, column = np.nonzero(_stays(positions, slots, sinks))", "row, column = (x[::-1] for x in np.nonzero(positions >= 0))", needs=("longer than the ring",)),
        Bug("offset by the number of entries kept", "numpy", "slot(positions[row, column], slots, sinks)", "(np.sum(layer['positions'] >= 0, axis=1)[row] + column) % slots"),
        Bug("sinks not kept from a long chunk", "numpy", "((positions < sinks) | (", "((positions < 0) | (", "_stays", needs=("sinks in a long chunk",)),
        Bug("values not written", "numpy", "values[row, :, place] = value[row, :, column]", "pass"),
        Bug("positions not written", "torch", '    layer["positions"][row, place] = positions[row, column]\n', ""),
        Bug("keys of another token", "torch", "= key[row, :, column]", "= key[row, :, 0 * column]"),
        Bug("ring one too short", "torch", "newest - positions < slots - sinks", "newest - positions < slots - sinks - 1"),
        Bug("sinks overwritten", "torch", "place = slot(positions[row, column], slots, sinks)", "place = slot(positions[row, column], slots)", needs=("sinks",)),
    ),
)  # fmt: skip


def draw_cache(source):
    """A cache of two layers, one of them a ring, in the middle of some texts."""
    rows, shared, features = source.integer(1, 4), source.integer(1, 2), source.size(5)
    layers = [filled(source, rows, shared, slots, 0, features, 12)[0] for slots in (20, source.choice(3, 5))]
    return rows, {"length": source.rng.integers(0, 13, rows), "layers": layers}


def draw_rewind(source):
    rows, cache = draw_cache(source)
    return source.case({"cache": cache, "lengths": source.rng.integers(0, 13, rows)})


REWIND = Component(
    name="rewind",
    numpy=numpy_cache.rewind,
    torch=torch_cache.rewind,
    draw=draw_rewind,
    call=unchanged,
    exact=True,
    compiles=False,
    bugs=(
        Bug("one token too many stays", "numpy", '< lengths[:, None]', '<= lengths[:, None]'),
        Bug("one too few stays", "numpy", '< lengths[:, None]', '< lengths[:, None] - 1'),
        Bug("length not taken back", "numpy", 'np.minimum(cache["length"], lengths)', 'cache["length"]'),
        Bug("the first row's length for all", "torch", ">= lengths[:, None]", ">= lengths[:1, None]"),
        Bug("longer than it was", "torch", 'torch.minimum(cache["length"], lengths)', "lengths.clone()"),
    ),
)


def draw_rows(source):
    rows, cache = draw_cache(source)
    kept = [row for row in range(rows) if source.flag()] or [0]
    source.event("some leave", len(kept) < rows)
    return source.case({"cache": cache}, rows=kept)


KEEP_ROWS = Component(
    name="keep_rows",
    numpy=numpy_cache.keep_rows,
    torch=torch_cache.keep_rows,
    draw=draw_rows,
    exact=True,
    compiles=False,
    events=("some leave",),
    bugs=(
        Bug("the first rows stay", "numpy", "array[rows]", "array[: len(rows)]"),
        Bug("lengths of the first rows", "numpy", 'cache["length"][rows]', 'cache["length"][: len(rows)]'),
        Bug("rows reversed", "torch", "buffer[rows]", "buffer[rows[::-1]]"),
        Bug("lengths reversed", "torch", 'cache["length"][rows]', 'cache["length"][rows[::-1]]'),
    ),
)


def draw_attention(source):
    config = draw_attention_config(source, layers=2)
    layer, capacity = source.choice(0, 1), 32
    slots = numpy_cache.cache_slots(config, layer, capacity, source.choice(0, 2))
    rows, shared, features = source.integer(1, 3), config.key_value_heads, config.attended_features
    cache, lengths = filled(source, rows, shared, slots, config.sinks, features, 20)
    new = source.choice(3, 1, 2, 9)
    positions = chunk_positions(source, lengths, new)
    window = config.layer_window(layer)
    for event, happens in {
        "one token": new == 1, "chunk": new > 1, "ring": window > 0, "chunk longer than the window": 0 < window < new,
        "padding": bool((positions < 0).any()), "ragged": len(set(lengths)) > 1,
        "two where one fits": new == 2 and slots == config.sinks + window and bool((lengths >= window).all()),
    }.items():  # fmt: skip
        source.event(event, happens)
    arrays = {
        "query": source.rng.standard_normal((rows, config.heads, new, features)),
        "key": source.rng.standard_normal((rows, shared, new, features)),
        "value": source.rng.standard_normal((rows, shared, new, features)),
        "positions": positions,
        "layer_cache": cache,
    }
    return source.case(arrays, config=config, layer=layer)


CACHED_ATTENTION = Component(
    name="cached_attention",
    numpy=numpy_cache.cached_attention,
    torch=torch_cache.cached_attention,
    draw=draw_attention,
    call=unchanged,
    kernels=(ATTENTION,),
    compiles=False,
    weight=3,
    events=("one token", "chunk", "ring", "chunk longer than the window", "padding", "ragged", "alibi", "capped scores", "grouped", "sinks"),
    bugs=(
        Bug("no mask over the cache", "numpy", "bias = None\n", "bias, mask = None, key_positions[:, None, None, :] >= 0\n"),
        Bug("window of W + 1", "numpy", "config.layer_window(layer), config.sinks)", "config.layer_window(layer) + 1, config.sinks)", needs=("ring",)),
        Bug("sinks forgotten", "numpy", "config.layer_window(layer), config.sinks)", "config.layer_window(layer))", needs=("sinks", "ring", "ragged")),
        Bug("a ring overwrites keys that its chunk needs", "numpy", 'keys = np.concatenate((layer_cache["key"], key), axis=2)', 'layer_cache = write_cache(layer_cache, key, value, positions, config.sinks)\n    keys = np.concatenate((layer_cache["key"], key), axis=2)', needs=("chunk longer than the window", "ragged")),
        Bug("softcap left out", "numpy", "None, config.attention_softcap, bias)", "None, 0.0, bias)", needs=("capped scores",)),
        Bug("written first although it does not fit", "torch", "fits = window == 0 or layer_cache[\"positions\"].shape[1] - config.sinks >= window + new - 1", "fits = True", needs=("chunk longer than the window",)),
        Bug("one slot too few counts as room", "torch", ">= window + new - 1", ">= window + new - 2", needs=("two where one fits",)),
        Bug("ALiBi left out", "torch", 'config.positions == "alibi"', "False", needs=("alibi",)),
        Bug("aligned at the start", "torch", "mask = visible_keys(positions, key_positions", "mask = visible_keys(positions - positions.amax(1, keepdim=True) + key_positions.shape[1] - 1, key_positions", needs=("one token",)),
        Bug("cache not written after a long chunk", "torch", "if not fits:", "if False:", needs=("chunk longer than the window",)),
    ),
)  # fmt: skip

COMPONENTS = (CACHE_SLOTS, SLOT, INIT_CACHE, WRITE_CACHE, REWIND, KEEP_ROWS, CACHED_ATTENTION)
