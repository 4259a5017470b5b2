"""What every head of every layer looks at, for pictures."""

import numpy as np

from numpy_ref.model.attention import attention_weights
from numpy_ref.model.block import block
from numpy_ref.model.embedding import embedding
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import layer_norm
from numpy_ref.model.positions import learned_positions, sinusoidal_positions
from numpy_ref.model.transformer import with_prefix


def attention_maps(tokens, params, config):
    """The attention weights of a text in all layers and heads, as the model without dropout computes them.

    Shapes: tokens (T,) integers, T at most config.context -> (layers, heads, T, T); row i of a map is what position i
    takes from each position, zero in its future. No gradient.
    """
    length = len(tokens)
    x, _ = embedding(tokens[None], params["token_embedding.weight"], config.embedding_scale)
    if config.positions == "sinusoidal":
        x = x + sinusoidal_positions(np.arange(length), config.width, x.dtype)
    elif config.positions == "learned":
        x = x + learned_positions(np.arange(length), params["position_embedding.weight"])[0]
    maps = []
    for layer in range(config.layers):
        p = with_prefix(params, f"blocks.{layer}")
        read = x
        if config.norm_position == "pre":
            read, _ = layer_norm(x, p["attention_norm.weight"], p.get("attention_norm.bias"), config.norm_eps)
        projected, _ = linear(read, p["attention.query_key_value.weight"], p.get("attention.query_key_value.bias"))
        query, key, _ = projected.reshape(length, 3, config.heads, -1).transpose(1, 2, 0, 3)  # (heads, T, d / heads)
        maps.append(attention_weights(query, key, causal=True))
        x, _ = block(x, p, config)
    return np.stack(maps)
