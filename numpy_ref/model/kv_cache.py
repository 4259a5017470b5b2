"""The key-value cache: what attention has already computed about the tokens before.

One form for both kinds. A layer that sees everything has a slot for every position. A layer with a window has a ring:
a new token takes the slot of the one that has just left the window, so its memory does not grow with the text. Every
slot knows the position of its token; who may see whom follows from positions alone (``masks.visible_keys``).
"""

import numpy as np

from numpy_ref.model.attention import scaled_dot_product_attention
from numpy_ref.model.masks import alibi_bias, visible_keys
from numpy_ref.model.positions import alibi_slopes


def init_cache(config, rows, capacity, dtype, slack=0):
    """An empty cache for ``rows`` texts of at most ``capacity`` tokens (a window layer alone holds texts of any length).

    slack: how many tokens ``rewind`` may take back: a ring needs as many slots more.

    Returns {"length": (rows,) tokens of each text so far, "layers": one dict a layer}, where a layer's "key" and
    "value" are (rows, G, slots, d_h) and its "positions" (rows, slots) int64, -1 in empty slots.
    """
    layers = []
    for layer in range(config.layers):
        slots = cache_slots(config, layer, capacity, slack)
        shape = (rows, config.key_value_heads, slots, config.attended_features)
        empty = np.full((rows, slots), -1, np.int64)
        layers.append({"key": np.zeros(shape, dtype), "value": np.zeros(shape, dtype), "positions": empty})
    return {"length": np.zeros(rows, np.int64), "layers": layers}


def cache_slots(config, layer, capacity, slack=0):
    """How many slots a layer needs: all of ``capacity``, or with a window what stays visible, and what may be taken back."""
    window = config.layer_window(layer)
    return min(capacity, config.sinks + window + slack) if window else capacity


def slot(positions, slots, sinks=0):
    """The slot of each position: its own number while there are so many, then round the ring behind the sinks.

        slot = p                                          p < slots
        slot = sinks + (p - sinks) mod (slots - sinks)    p >= slots

    positions (...) of whole numbers -> (...); -1 stays -1. ``slots`` is above ``sinks`` wherever a position is beyond it.
    """
    ring = max(slots - sinks, 1)
    return np.where(positions < slots, positions, sinks + (positions - sinks) % ring)


def write_cache(layer, key, value, positions, sinks=0):
    """A layer's cache with new entries in it. What a later token of the same chunk would overwrite is left out.

    key, value: (rows, G, n, d_h); positions: (rows, n), -1 for padding, which is not written. The old cache is unchanged.
    """
    keys, values, places = layer["key"].copy(), layer["value"].copy(), layer["positions"].copy()
    slots = places.shape[1]
    row, column = np.nonzero(_stays(positions, slots, sinks))
    place = slot(positions[row, column], slots, sinks)
    keys[row, :, place] = key[row, :, column]
    values[row, :, place] = value[row, :, column]
    places[row, place] = positions[row, column]
    return {"key": keys, "value": values, "positions": places}


def rewind(cache, lengths):
    """The cache as it was when the texts had only ``lengths`` (rows,) tokens: later entries are empty again.

    A ring has overwritten what left it: no more than the ``slack`` of ``init_cache`` can be taken back.
    """
    layers = []
    for layer in cache["layers"]:
        kept = layer["positions"] < lengths[:, None]
        layers.append(layer | {"positions": np.where(kept, layer["positions"], -1)})
    return {"length": np.minimum(cache["length"], lengths), "layers": layers}


def keep_rows(cache, rows):
    """The cache of some of its texts: ``rows`` is a list of their numbers."""
    layers = [{name: array[rows] for name, array in layer.items()} for layer in cache["layers"]]
    return {"length": cache["length"][rows], "layers": layers}


def cached_attention(query, key, value, positions, layer_cache, config, layer):
    """Attention of new tokens over the cached ones and each other, and the cache with the new ones in it.

    The new keys are written only afterwards: in a ring they overwrite keys that the first tokens of the same chunk still
    see. Empty slots and padding, at position -1, are seen by nobody.

    Shapes: query (rows, H, n, d_h), key and value (rows, G, n, d_h), positions (rows, n), -1 for padding
    -> (rows, H, n, d_h), the layer's new cache. No vjp: caches are for inference.
    """
    keys = np.concatenate((layer_cache["key"], key), axis=2)
    values = np.concatenate((layer_cache["value"], value), axis=2)
    key_positions = np.concatenate((layer_cache["positions"], positions), axis=1)
    mask = visible_keys(positions, key_positions, config.layer_window(layer), config.sinks)
    bias = None
    if config.positions == "alibi":
        bias = alibi_bias(positions, key_positions, alibi_slopes(config.heads))
    y, _ = scaled_dot_product_attention(query, keys, values, mask, False, None, config.attention_softcap, bias)
    return y, write_cache(layer_cache, key, value, positions, config.sinks)


def _stays(positions, slots, sinks):
    """Whether an entry is still there once its whole chunk is written: bool (rows, n)."""
    last = np.max(positions, axis=1, keepdims=True, initial=-1)
    return (positions >= 0) & ((positions < sinks) | (positions > last - (slots - sinks)))
