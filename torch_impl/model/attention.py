"""Attention: every position reads from the positions that it may see.

Masks are bool, True where a query may see a key. Causal masks are aligned at the end: the last query sees every key.
"""

import math

import torch
import torch.nn.functional as F

from torch_impl.model.linear import linear
from torch_impl.model.softmax import softmax

TORCH_EXTRA_ARGUMENTS = {"device"}

_LONGEST_EXPLICIT = 1024  # keys; longer rows of scores would fill the memory


def scaled_dot_product_attention(query, key, value, mask=None, causal=False, scale=None):
    """Scaled dot-product attention ("Attention Is All You Need" eq. 1).

        y = softmax(scale * query key^T, over visible keys) value        scale = 1 / sqrt(d) unless given

    Shapes: query (..., Tq, d), key (..., Tk, d), value (..., Tk, e), mask broadcastable to (..., Tq, Tk)
    -> (..., Tq, e). A query that sees no key gives zeros and passes zero gradients.

    The fused kernel (FlashAttention, arXiv:2205.14135) never writes the scores to memory. On CPUs in 16 bits its
    backward is slow, and three plain batched matrix products, which the bfloat16 units run, are 3 times as fast.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    queries, keys = query.shape[-2], key.shape[-2]
    explicit = query.device.type == "cpu" and query.itemsize == 2 and keys <= _LONGEST_EXPLICIT
    if causal and mask is None and queries == keys and not explicit:  # the kernel's own flag aligns at the start
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)

    visible, seeing = _visible(mask, causal and queries > 1, queries, keys, query.device), None
    if mask is not None or (causal and queries > keys):
        seeing = visible.any(-1, keepdim=True)
        visible = visible | ~seeing  # softmax over no key is 0/0: let blind queries see all, then discard what they saw
    if explicit:
        y = _explicit_attention(query, key, value, visible, scale)
    else:
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scale)
    return y if seeing is None else torch.where(seeing, y, 0)


def attention_weights(query, key, mask=None, causal=False, scale=None):
    """The probabilities that ``scaled_dot_product_attention`` weighs values with, for pictures.

    Shapes: query (..., Tq, d), key (..., Tk, d) -> (..., Tq, Tk).
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.mT
    visible = _visible(mask, causal, query.shape[-2], key.shape[-2], query.device)
    return softmax(scores if visible is None else scores.masked_fill(~visible, -math.inf)).detach()


def multi_head_attention(x, params, heads, mask=None, causal=True):
    """Self-attention in several subspaces at once ("Attention Is All You Need" §3.2.2).

        query, key, value = heads of x Wqkv^T        y = concatenated attention of the heads, times Wo^T

    Shapes: x (B, T, d), query_key_value.weight (3d, d), query_key_value.bias (3d,)?, output.weight (d, d),
    output.bias (d,)?, mask broadcastable to (B, heads, T, T) -> (B, T, d). Rows of query_key_value: all query heads,
    then all key heads, then all value heads. One matrix product makes all three; the split is a view.
    """
    batch, length, width = x.shape
    projected = linear(x, params["query_key_value.weight"], params.get("query_key_value.bias"))
    split = projected.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    y = scaled_dot_product_attention(*split.unbind(0), mask, causal)
    y = y.transpose(1, 2).reshape(batch, length, width)
    return linear(y, params["output.weight"], params.get("output.bias"))


def causal_mask(queries, keys, device=None):
    """Query i sees keys j <= i + keys - queries: the last query sees all. Shapes: -> (queries, keys) bool."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def padding_mask(lengths, keys):
    """True for the first lengths[b] keys of row b. Shapes: lengths (B,) integers -> (B, 1, 1, keys) bool."""
    lengths = torch.as_tensor(lengths)
    return (torch.arange(keys, device=lengths.device) < lengths[:, None])[:, None, None, :]


def _visible(mask, causal, queries, keys, device):
    """Mask and causality in one mask (..., Tq, Tk), or None where everything is visible."""
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], queries, keys)
    if not causal:
        return mask
    causality = causal_mask(queries, keys, device)
    return causality if mask is None else mask & causality


def _explicit_attention(query, key, value, visible, scale):
    """Matrix product, softmax, matrix product. Scale and mask ride along in the first product, which scales its
    float32 sums: float16 scores can't overflow before they are scaled."""
    lead, (queries, keys) = query.shape[:-2], (query.shape[-2], key.shape[-2])
    q, k, v = (x.reshape(-1, *x.shape[-2:]) for x in (query, key, value))
    bias = q.new_zeros(())
    if visible is not None:
        bias = torch.where(visible, bias, -math.inf)
        if bias.ndim > 2:
            bias = bias.expand(*lead, queries, keys).reshape(-1, queries, keys)
    scores = torch.baddbmm(bias, q, k.mT, alpha=scale)
    return torch.bmm(F.softmax(scores, -1), v).view(*lead, queries, value.shape[-1])
