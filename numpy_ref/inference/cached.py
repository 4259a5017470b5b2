"""The model one chunk at a time, with a cache for what came before."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.feed_forward import feed_forward
from numpy_ref.model.kv_cache import cache_slots, cached_attention
from numpy_ref.model.linear import linear
from numpy_ref.model.moe import moe
from numpy_ref.model.multi_head_attention import attended_heads, project
from numpy_ref.model.norms import norm
from numpy_ref.model.parameters import with_prefix
from numpy_ref.model.positions import rope_phases
from numpy_ref.model.transformer import embed, head


def cached_transformer(tokens, params, config, cache, counts=None, last=False):
    """Logits of new tokens, each of which sees what the cache holds and the new ones before it.

    The same function as ``transformer`` on the whole text, whatever the chunks in which it comes.

    tokens: (rows, n), the next tokens of each text; counts: (rows,), how many of them are real (None: all), the rest is
    padding at the end. last: only the logits after each row's last real token are wanted.

    Returns logits (rows, n, V), or (rows, V) with ``last``; and the cache with the new tokens in it. No vjp.
    Raises UserError for a text that outgrows the cache or the model's context.
    """
    counts = np.full(len(tokens), tokens.shape[1]) if counts is None else counts
    place = np.arange(tokens.shape[1])
    positions = np.where(place < counts[:, None], cache["length"][:, None] + place, -1)
    _check_room(positions, config, cache)
    x, _ = embed(tokens, positions, params, config)
    phases = rope_phases(positions, config, x.dtype) if config.positions == "rope" else None
    layers = []
    for layer, layer_cache in enumerate(cache["layers"]):
        own = with_prefix(params, f"blocks.{layer}")
        x, layer_cache = _cached_block(x, own, config, layer, phases, positions, layer_cache)
        layers.append(layer_cache)
    if last:
        x = x[np.arange(len(x)), np.maximum(counts, 1) - 1][:, None]
    logits, _ = head(x, params, config)
    return logits[:, 0] if last else logits, {"length": cache["length"] + counts, "layers": layers}


def _cached_block(x, params, config, layer, phases, positions, layer_cache):
    """``block`` without its backward pass, whose attention reads and writes the cache: (rows, n, d) -> same, new cache."""

    def normed(name, x):
        return norm(x, with_prefix(params, name), config.norm, config.norm_eps)[0]

    def attention(x):
        own = with_prefix(params, "attention")
        (query, key, value), _ = project(x, own, config, phases)
        y, new = cached_attention(query, key, value, positions, layer_cache, config, layer)
        y, _ = attended_heads(y, config)
        joined = np.swapaxes(y, 1, 2).reshape(*x.shape[:2], -1)
        return linear(joined, own["output.weight"], own.get("output.bias"))[0], new

    def feed(x):
        own = with_prefix(params, "feed_forward")
        if layer in config.moe_layers:
            return moe(x, own, config, valid=positions >= 0)[0][0]
        return feed_forward(x, own, config.activation)[0]

    if config.norm_position == "pre":
        attended, new = attention(normed("attention_norm", x))
        x = x + attended
        return x + feed(normed("feed_forward_norm", x)), new
    attended, new = attention(x)
    x = normed("attention_norm", x + attended)
    return normed("feed_forward_norm", x + feed(x)), new


def _check_room(positions, config, cache):
    longest = int(np.max(positions, initial=-1)) + 1
    for number, layer in enumerate(cache["layers"]):
        slots = layer["positions"].shape[1]
        if cache_slots(config, number, longest) > slots:
            raise UserError(f"{longest} tokens do not fit the cache of {slots}; make a larger one or give a shorter text")
    if longest > config.context and not config.endless:
        raise UserError(
            f"{longest} tokens are longer than the model's context of {config.context}; "
            f"give at most {config.context} or train with a larger context"
        )
