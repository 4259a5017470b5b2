"""Self-attention in several subspaces at once."""

import torch

from numpy_ref.errors import UserError
from torch_impl.hyperbolic.layers import lift_heads, midpoints
from torch_impl.model.attention import scaled_dot_product_attention, sliding_window_attention
from torch_impl.model.linear import linear
from torch_impl.model.masks import alibi_bias, document_positions, document_runs, visible_keys
from torch_impl.model.norms import rms_norm
from torch_impl.model.positions import alibi_slopes, rotary


def multi_head_attention(x, params, config, mask=None, causal=True, layer=0, phases=None, documents=None):
    """Self-attention of several heads ("Attention Is All You Need" §3.2.2), as the config has it.

        query, key, value = heads of x Wqkv^T        y = concatenated attention of the heads, times Wo^T

    Shapes: x (B, T, d), query_key_value.weight ((H + 2G) hd, d), query_key_value.bias?, output.weight (d, H hd),
    output.bias (d,)?, query_norm.weight (hd,)?, key_norm.weight (hd,)?, mask broadcastable to (B, H, T, T), phases
    (cos, sin) of RoPE (B or 1, T, r/2), documents (B, T) -> (B, T, d).
    ``layer`` decides on the window. UserError for a window or ALiBi that is not causal.
    """
    query, key, value = project(x, params, config, phases)
    y = _attention(query, key, value, config, mask, causal, config.layer_window(layer), documents)
    y = attended_heads(y, config)
    return linear(y.transpose(1, 2).flatten(2), params["output.weight"], params.get("output.bias"))


def project(x, params, config, phases=None):
    """Queries, keys and values: one matrix product, split into views; then the norm (arXiv:2302.05442 §2) and RoPE.

    An attention_curvature makes them points of the hyperboloid, whose products are distances (``lift_heads``).

    Shapes: x (B, T, d) -> query (B, H, T, hd), key and value (B, G, T, hd); hd + 1 features with a curvature.
    """
    heads, shared = config.heads, config.key_value_heads
    stacked = linear(x, params["query_key_value.weight"], params.get("query_key_value.bias"))
    stacked = stacked.view(*x.shape[:2], heads + 2 * shared, -1).transpose(1, 2)
    turning, value = stacked.split((heads + shared, shared), 1)
    if config.qk_norm:
        query, key = turning.split((heads, shared), 1)
        query = rms_norm(query, params["query_norm.weight"], config.norm_eps)
        key = rms_norm(key, params["key_norm.weight"], config.norm_eps)
        turning = torch.cat((query, key), 1)
    if phases is not None:
        cos, sin = (phase.unsqueeze(1) for phase in phases)
        turning = rotary(turning, cos, sin, config.rope_interleaved)  # one call for both: as many, but longer loops
    query, key = turning.split((heads, shared), 1)
    if config.attention_curvature:
        query, key, value = lift_heads(query, key, value, config.attention_curvature)
    return query, key, value


def attended_heads(attended, config):
    """Attention's result as features: with an attention_curvature the values' centroids.

    Shapes: (B, H, T, hd), or hd + 1 features with a curvature -> (B, H, T, hd).
    """
    return midpoints(attended, config.attention_curvature) if config.attention_curvature else attended


def _attention(query, key, value, config, mask, causal, window, documents):
    """The cheapest attention that does what config, mask and documents ask for."""
    slopes = alibi_slopes(config.heads) if config.positions == "alibi" else None
    if not causal and (window or slopes is not None):
        raise UserError("windows and ALiBi are defined for causal attention; take causal=True")
    if window and mask is None:
        return sliding_window_attention(
            query, key, value, window, config.sinks, None, config.attention_softcap, slopes, documents
        )
    bias = None
    if documents is not None or window or slopes is not None:
        if documents is None:
            positions = torch.arange(query.shape[2], device=query.device)[None]
        else:
            positions, documents = document_positions(documents), document_runs(documents)
        visible = visible_keys(positions, positions, window, config.sinks, documents, documents)
        if not causal:  # both directions: what sees is also seen
            visible = visible | visible.mT
        mask = visible if mask is None else mask & visible
        if slopes is not None:
            bias = alibi_bias(positions, positions, slopes.to(query.device))
        causal = False
    return scaled_dot_product_attention(query, key, value, mask, causal, None, config.attention_softcap, bias)
