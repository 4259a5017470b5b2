"""What every head of every layer looks at, for pictures."""

import numpy as np

from numpy_ref.model.attention import attention_weights
from numpy_ref.model.block import block
from numpy_ref.model.masks import alibi_bias, visible_keys
from numpy_ref.model.multi_head_attention import project
from numpy_ref.model.norms import norm
from numpy_ref.model.parameters import with_prefix
from numpy_ref.model.positions import alibi_slopes, rope_phases
from numpy_ref.model.transformer import embed


def attention_maps(tokens, params, config):
    """The attention weights of a text in all layers and heads, as the model without dropout computes them.

    Shapes: tokens (T,) integers, T at most config.context -> (layers, heads, T, T); row i of a map is what position i
    takes from each position, zero where it may not look. No gradient.
    """
    positions = np.arange(len(tokens))[None]
    x, _ = embed(tokens[None], positions, params, config)
    phases = rope_phases(positions, config, x.dtype) if config.positions == "rope" else None
    bias = alibi_bias(positions, positions, alibi_slopes(config.heads)) if config.positions == "alibi" else None
    maps = []
    for layer in range(config.layers):
        own = with_prefix(params, f"blocks.{layer}")
        read = x
        if config.norm_position == "pre":
            read, _ = norm(x, with_prefix(own, "attention_norm"), config.norm, config.norm_eps)
        (query, key, _), _ = project(read, with_prefix(own, "attention"), config, phases)
        mask = visible_keys(positions, positions, config.layer_window(layer), config.sinks)
        maps.append(attention_weights(query, key, mask, softcap=config.attention_softcap, bias=bias)[0])
        x, _ = block(x, own, config, layer=layer, phases=phases)
    return np.stack(maps)
