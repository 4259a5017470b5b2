"""What every head of every layer looks at, for pictures."""

import torch

from torch_impl.model.attention import attention_weights
from torch_impl.model.block import block
from torch_impl.model.masks import alibi_bias, visible_keys
from torch_impl.model.multi_head_attention import project
from torch_impl.model.norms import norm
from torch_impl.model.parameters import with_prefix
from torch_impl.model.positions import alibi_slopes, rope_phases
from torch_impl.model.transformer import embed


@torch.inference_mode()
def attention_maps(tokens, params, config):
    """The attention weights of a text in all layers and heads, as the model without dropout computes them.

    Shapes: tokens (T,) integers on the device of params, T at most config.context -> (layers, heads, T, T); row i of a
    map is what position i takes from each position, zero where it may not look.
    """
    positions = torch.arange(len(tokens), device=tokens.device)[None]
    x = embed(tokens[None].long(), positions, params, config)
    phases = rope_phases(positions, config, x.dtype) if config.positions == "rope" else None
    bias = None
    if config.positions == "alibi":
        bias = alibi_bias(positions, positions, alibi_slopes(config.heads).to(tokens.device))
    maps = []
    for layer in range(config.layers):
        own = with_prefix(params, f"blocks.{layer}")
        read = x
        if config.norm_position == "pre":
            read = norm(x, with_prefix(own, "attention_norm"), config.norm, config.norm_eps)
        query, key, _ = project(read, with_prefix(own, "attention"), config, phases)
        visible = visible_keys(positions, positions, config.layer_window(layer), config.sinks)
        maps.append(attention_weights(query, key, visible, softcap=config.attention_softcap, bias=bias)[0])
        x = block(x, own, config, layer=layer, phases=phases)
    return torch.stack(maps)
