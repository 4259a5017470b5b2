"""What every head of every layer looks at, for pictures."""

import torch

from torch_impl.model.attention import attention_weights
from torch_impl.model.block import block, with_prefix
from torch_impl.model.embedding import embedding
from torch_impl.model.linear import linear
from torch_impl.model.norms import layer_norm
from torch_impl.model.positions import learned_positions, sinusoidal_positions


@torch.inference_mode()
def attention_maps(tokens, params, config):
    """The attention weights of a text in all layers and heads, as the model without dropout computes them.

    Shapes: tokens (T,) integers on the device of params, T at most config.context -> (layers, heads, T, T); row i of a
    map is what position i takes from each position, zero in its future.
    """
    length = len(tokens)
    x = embedding(tokens[None].long(), params["token_embedding.weight"], config.embedding_scale)
    positions = torch.arange(length, device=tokens.device)
    if config.positions == "sinusoidal":
        x = x + sinusoidal_positions(positions, config.width, x.dtype)
    elif config.positions == "learned":
        x = x + learned_positions(positions, params["position_embedding.weight"])
    maps = []
    for layer in range(config.layers):
        p = with_prefix(params, f"blocks.{layer}")
        read = x
        if config.norm_position == "pre":
            read = layer_norm(x, p["attention_norm.weight"], p.get("attention_norm.bias"), config.norm_eps)
        projected = linear(read, p["attention.query_key_value.weight"], p.get("attention.query_key_value.bias"))
        query, key, _ = projected.reshape(length, 3, config.heads, -1).permute(1, 2, 0, 3)  # (heads, T, d / heads)
        maps.append(attention_weights(query, key, causal=True))
        x = block(x, p, config)
    return torch.stack(maps)
