"""Several attentions side by side: from the stream to queries, keys and values, and back."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.hyperbolic.layers import lift_heads, midpoints
from numpy_ref.model.attention import scaled_dot_product_attention, sliding_window_attention
from numpy_ref.model.linear import linear
from numpy_ref.model.masks import alibi_bias, document_positions, document_runs, visible_keys
from numpy_ref.model.norms import rms_norm
from numpy_ref.model.positions import alibi_slopes, rotary


def multi_head_attention(x, params, config, mask=None, causal=True, layer=0, phases=None, documents=None):
    """Several attentions, each on its own slice of the features (arXiv:1706.03762, section 3.2.2).

        [Q, K, V] = x W^T + b        Y_h = attention(Q_h, K_h, V_h)        y = [Y_1 ... Y_H] O^T + c

    params: "query_key_value.weight" W ((H + 2G) d_h, d) and ".bias", whose rows are all queries, then all keys, then all
    values, and inside each head after head; "output.weight" O (d, H d_h) and ".bias" c (d,); with qk_norm
    "query_norm.weight" and "key_norm.weight" (d_h,). Biases may be absent.
    config: ModelConfig; ``layer`` decides whether there is a window. mask: bool, True where a query may see a key,
    broadcastable to (B, H, T, T). phases: None or RoPE's (cos, sin), each (B or 1, T, r / 2). documents: None or ids
    (B, T) of texts that share a row.

    Shapes: x (B, T, d) -> y (B, T, d);  vjp: dy (B, T, d) -> dx (B, T, d), dparams with the keys of params.
    Raises UserError for a window or ALiBi without causality: both are about the past.

    Backward: the same path in reverse. Splitting into heads only moves values, so its backward moves gradients back.
    """
    (query, key, value), project_vjp = project(x, params, config, phases)
    attended, attention_vjp = _attend(query, key, value, config, mask, causal, layer, documents)
    heads, heads_vjp = attended_heads(attended, config)
    y, output_vjp = linear(_joined(heads), params["output.weight"], params.get("output.bias"))

    def vjp(dy):
        grads = {}
        djoined, grads["output.weight"], grads["output.bias"] = output_vjp(dy)
        dx, projection_grads = project_vjp(*attention_vjp(heads_vjp(_split(djoined, config.heads))))
        grads |= projection_grads
        return dx, {name: grads[name] for name in params}

    return y, vjp


def project(x, params, config, phases=None):
    """Queries, keys and values of every head, as attention takes them.

        [Q, K, V] = x W^T + b        then, where the config says so, Q and K are normed (arXiv:2010.04245) and turned (RoPE)

    The norm keeps the scores from growing with the weights; it acts on each head's features, before the rotation.
    With an attention_curvature they are space coordinates of points, and ``lift_heads`` adds the times: the same products
    then are distances. Lengths of queries, keys and values are learnt, and with them how much the curvature is felt.

    Shapes: x (B, T, d) -> query (B, H, T, d_h), key and value (B, G, T, d_h); 1 + d_h features with a curvature.
    vjp: dquery, dkey, dvalue -> dx (B, T, d), grads of the parameters it used.
    """
    queries, keys = config.heads * config.head_features, config.key_value_heads * config.head_features
    stacked, linear_vjp = linear(x, params["query_key_value.weight"], params.get("query_key_value.bias"))
    query = _split(stacked[..., :queries], config.heads)
    key = _split(stacked[..., queries : queries + keys], config.key_value_heads)
    value = _split(stacked[..., queries + keys :], config.key_value_heads)
    query, query_vjp = _prepared(query, params.get("query_norm.weight"), config, phases)
    key, key_vjp = _prepared(key, params.get("key_norm.weight"), config, phases)
    heads, lift_vjp = (query, key, value), None
    if config.attention_curvature:
        heads, lift_vjp = lift_heads(*heads, config.attention_curvature)

    def vjp(dquery, dkey, dvalue):
        grads = {}
        if lift_vjp is not None:
            dquery, dkey, dvalue, _ = lift_vjp((dquery, dkey, dvalue))
        dquery, grads["query_norm.weight"] = query_vjp(dquery)
        dkey, grads["key_norm.weight"] = key_vjp(dkey)
        dstacked = np.concatenate([_joined(part) for part in (dquery, dkey, dvalue)], axis=-1)
        dx, grads["query_key_value.weight"], grads["query_key_value.bias"] = linear_vjp(dstacked)
        return dx, grads

    return heads, vjp


def attended_heads(attended, config):
    """What attention returns, as features again: with an attention_curvature the centroids of the values.

    Shapes: (B, H, T, d_h), 1 + d_h features with a curvature -> (B, H, T, d_h);  vjp: dy -> dattended.
    """
    if not config.attention_curvature:
        return attended, lambda dy: dy
    y, vjp = midpoints(attended, config.attention_curvature)
    return y, lambda dy: vjp(dy)[0]


def _prepared(x, weight, config, phases):
    """Norm, then rotation, each if there is one; vjp: dy -> dx, dweight or None."""
    norm_vjp = turn_vjp = None
    if config.qk_norm:
        x, norm_vjp = rms_norm(x, weight, config.norm_eps)
    if phases is not None:
        cos, sin = (phase[:, None] for phase in phases)  # the same for all heads
        x, turn_vjp = rotary(x, cos, sin, config.rope_interleaved)

    def vjp(dy):
        if turn_vjp is not None:
            dy = turn_vjp(dy)
        return (dy, None) if norm_vjp is None else norm_vjp(dy)

    return x, vjp


def _attend(query, key, value, config, mask, causal, layer, documents):
    """Attention as this layer does it: with its window, in its documents, with ALiBi or without."""
    window, softcap = config.layer_window(layer), config.attention_softcap
    slopes = alibi_slopes(config.heads) if config.positions == "alibi" else None
    if not causal and (window or slopes is not None):
        raise UserError("a window and ALiBi look into the past; they need causal attention")
    if window and mask is None:
        return sliding_window_attention(query, key, value, window, config.sinks, None, softcap, slopes, documents)
    if documents is None and not window and slopes is None:
        return scaled_dot_product_attention(query, key, value, mask, causal, None, softcap)
    if documents is None:
        documents = np.zeros((1, query.shape[-2]), np.int64)
    positions, documents = document_positions(documents), document_runs(documents)
    last = positions if causal else np.where(positions < 0, -1, np.iinfo(np.int64).max)
    visible = visible_keys(last, positions, window, config.sinks, documents, documents)
    mask = visible if mask is None else visible & mask
    bias = None if slopes is None else alibi_bias(positions, positions, slopes)
    return scaled_dot_product_attention(query, key, value, mask, False, None, softcap, bias)


def _split(features, heads):
    """(B, T, heads * d_h) -> (B, heads, T, d_h)."""
    return np.swapaxes(features.reshape(*features.shape[:2], heads, -1), 1, 2)


def _joined(attended):
    """(B, heads, T, d_h) -> (B, T, heads * d_h): the heads of a position side by side."""
    swapped = np.swapaxes(attended, 1, 2)
    return swapped.reshape(*swapped.shape[:2], -1)
