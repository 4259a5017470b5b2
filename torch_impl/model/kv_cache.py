"""Keys and values of earlier tokens, in buffers that are allocated once.

Every slot knows the position of its token (-1: empty), and positions alone decide who sees it: the same masks serve
caches that hold everything and rings that hold a window. Writing is in place: shapes never change.
"""

import torch

from torch_impl.model.attention import scaled_dot_product_attention
from torch_impl.model.masks import alibi_bias, visible_keys
from torch_impl.model.positions import alibi_slopes

TORCH_EXTRA_ARGUMENTS = {"device"}


def init_cache(config, rows, capacity, dtype, slack=0, device=None):
    """An empty cache: {"length": (rows,) int64, "layers": [{"key", "value": (rows, G, slots, hd), "positions"}, ...]}.

    ``capacity``: tokens of the longest text; layers with a window forget and need no more than ``cache_slots``.
    ``slack``: tokens that ``rewind`` may take back.
    """

    def buffers(layer):
        slots = cache_slots(config, layer, capacity, slack)
        shape = (rows, config.key_value_heads, slots, config.attended_features)
        return {
            "key": torch.zeros(shape, dtype=dtype, device=device),
            "value": torch.zeros(shape, dtype=dtype, device=device),
            "positions": torch.full((rows, slots), -1, dtype=torch.int64, device=device),
        }

    length = torch.zeros(rows, dtype=torch.int64, device=device)
    return {"length": length, "layers": [buffers(layer) for layer in range(config.layers)]}


def cache_slots(config, layer, capacity, slack=0):
    """Slots of a layer: capacity, or what a window, its sinks and the slack need, if that is less."""
    window = config.layer_window(layer)
    return min(capacity, window + config.sinks + slack) if window else capacity


def slot(positions, slots, sinks=0):
    """Where each position lies: sinks and the first round in order, then round the ring behind the sinks; -1 stays.

    Shapes: positions (...) integers -> (...).
    """
    wrapped = sinks + (positions - sinks).remainder(max(slots - sinks, 1))
    return torch.where(positions < slots, positions, wrapped)


def write_cache(layer, key, value, positions, sinks=0):
    """Puts new entries into a layer's buffers, in place; returns the layer.

    Shapes: key, value (rows, G, n, hd), positions (rows, n), -1 for padding. Of a chunk longer than the ring only what
    stays is written, so that no slot is written twice.
    """
    slots = layer["positions"].shape[1]
    if positions.shape[1] == 1:  # decoding: no choice to make, and nothing to wait for
        place = slot(positions, slots, sinks)
        row = torch.arange(len(positions), device=positions.device)[:, None]
        kept = place >= 0
        place = place.clamp(min=0)
        old = layer["key"][row, :, place], layer["value"][row, :, place], layer["positions"][row, place]
        wide = kept[..., None, None]
        layer["key"][row, :, place] = torch.where(wide, key.transpose(1, 2), old[0])
        layer["value"][row, :, place] = torch.where(wide, value.transpose(1, 2), old[1])
        layer["positions"][row, place] = torch.where(kept, positions, old[2])
        return layer
    newest = positions.amax(1, keepdim=True)
    stays = (positions >= 0) & ((positions < sinks) | (newest - positions < slots - sinks))
    row, column = stays.nonzero(as_tuple=True)
    place = slot(positions[row, column], slots, sinks)
    layer["key"][row, :, place] = key[row, :, column]
    layer["value"][row, :, place] = value[row, :, column]
    layer["positions"][row, place] = positions[row, column]
    return layer


def rewind(cache, lengths):
    """Takes back all tokens from position ``lengths`` (rows,) on, in place; returns the cache.

    What a ring has overwritten does not come back: at most the slack of ``init_cache`` may be taken.
    """
    for layer in cache["layers"]:
        layer["positions"].masked_fill_(layer["positions"] >= lengths[:, None], -1)
    cache["length"] = torch.minimum(cache["length"], lengths)
    return cache


def keep_rows(cache, rows):
    """The cache of the texts numbered in ``rows`` (a list): finished ones leave the batch."""
    layers = [{name: buffer[rows] for name, buffer in layer.items()} for layer in cache["layers"]]
    return {"length": cache["length"][rows], "layers": layers}


def cached_attention(query, key, value, positions, layer_cache, config, layer):
    """Attention of new tokens over the cache and themselves; their keys and values enter the cache.

    Where all that the new tokens see fits beside them, they are written first and attention reads the buffers as they
    are. A chunk that would overwrite keys which its own first tokens still see attends over the buffers and the chunk.
    The format of the buffers is the one in which attention is computed.

    Shapes: query (rows, H, n, hd), key and value (rows, G, n, hd), positions (rows, n), -1 for padding
    -> (rows, H, n, hd), layer_cache.
    """
    given, kind = query.dtype, layer_cache["key"].dtype
    query, key, value = query.to(kind), key.to(kind), value.to(kind)
    window, new = config.layer_window(layer), positions.shape[1]
    fits = window == 0 or layer_cache["positions"].shape[1] - config.sinks >= window + new - 1
    if fits:
        layer_cache = write_cache(layer_cache, key, value, positions, config.sinks)
        keys, values, key_positions = (layer_cache[name] for name in ("key", "value", "positions"))
    else:
        keys = torch.cat((layer_cache["key"], key), 2)
        values = torch.cat((layer_cache["value"], value), 2)
        key_positions = torch.cat((layer_cache["positions"], positions), 1)
    mask = visible_keys(positions, key_positions, window, config.sinks)
    bias = None
    if config.positions == "alibi":
        bias = alibi_bias(positions, key_positions, alibi_slopes(config.heads).to(query.device))
    y = scaled_dot_product_attention(query, keys, values, mask, False, None, config.attention_softcap, bias)
    if not fits:
        layer_cache = write_cache(layer_cache, key, value, positions, config.sinks)
    return y.to(given), layer_cache
