"""The model on the next tokens of a text, with what came before in a cache."""

import torch

from numpy_ref.errors import UserError
from torch_impl.model.feed_forward import feed_forward
from torch_impl.model.kv_cache import cache_slots, cached_attention
from torch_impl.model.linear import linear
from torch_impl.model.moe import moe
from torch_impl.model.multi_head_attention import attended_heads, project
from torch_impl.model.norms import norm
from torch_impl.model.parameters import with_prefix
from torch_impl.model.positions import rope_phases
from torch_impl.model.residual import residual
from torch_impl.model.transformer import embed, head


@torch.inference_mode()
def cached_transformer(tokens, params, config, cache, counts=None, last=False):
    """Logits of ``transformer`` for tokens that follow those in the cache, which takes them in.

    Shapes: tokens (rows, n) integers; counts (rows,) integers: row b uses its first counts[b] tokens, all if None
    -> logits (rows, n, V), or with ``last`` (rows, V) after each row's last used token; cache (its buffers are written).
    Logits after unused tokens mean nothing. UserError if a text outgrows the cache or the context.
    """
    rows, new = tokens.shape
    start = cache["length"]
    place = torch.arange(new, device=tokens.device).expand(rows, new)
    positions = start[:, None] + place
    if counts is not None:
        positions = torch.where(place < counts[:, None], positions, -1)
    _check_room(positions, config, cache)
    x = embed(tokens.long(), positions, params, config)
    phases = rope_phases(positions, config, x.dtype) if config.positions == "rope" else None
    layers = []
    for layer, layer_cache in enumerate(cache["layers"]):
        own = with_prefix(params, f"blocks.{layer}")
        x, layer_cache = _cached_block(x, own, config, layer, phases, positions, layer_cache)
        layers.append(layer_cache)
    if last:
        final = torch.full((rows,), new, device=tokens.device) if counts is None else counts
        x = x[torch.arange(rows, device=tokens.device), (final - 1).clamp(min=0)]
    grown = start + (new if counts is None else counts)
    return head(x, params, config), {"length": grown, "layers": layers}


def _cached_block(x, params, config, layer, phases, positions, layer_cache):
    """``block`` with the cache in the place of the text before. Shapes: (rows, n, d) -> (rows, n, d), layer_cache."""

    def normed(name, x):
        return norm(x, with_prefix(params, name), config.norm, config.norm_eps)

    def attention(x):
        own = with_prefix(params, "attention")
        y, written = cached_attention(*project(x, own, config, phases), positions, layer_cache, config, layer)
        y = attended_heads(y, config)
        return linear(y.transpose(1, 2).flatten(2), own["output.weight"], own.get("output.bias")), written

    def feeding(x):
        own = with_prefix(params, "feed_forward")
        if layer in config.moe_layers:
            return moe(x, own, config, valid=positions >= 0)[0]
        return feed_forward(x, own, config.activation)

    if config.norm_position == "pre":
        y, layer_cache = attention(normed("attention_norm", x))
        x = residual(x, y)
        return residual(x, feeding(normed("feed_forward_norm", x))), layer_cache
    y, layer_cache = attention(x)
    x = normed("attention_norm", residual(x, y))
    return normed("feed_forward_norm", residual(x, feeding(x))), layer_cache


def _check_room(positions, config, cache):
    longest = int(positions.max()) + 1  # waits for the device, once a chunk
    for number, layer in enumerate(cache["layers"]):
        slots = layer["positions"].shape[1]
        if cache_slots(config, number, longest) > slots:
            raise UserError(f"{longest} tokens do not fit the cache of {slots}; make a larger one or give a shorter text")
    if longest > config.context and not config.endless:
        raise UserError(f"{longest} tokens do not fit the model's context of {config.context}; give at most that many")
