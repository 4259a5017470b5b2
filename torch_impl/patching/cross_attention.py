"""Bytes to patches and back (arXiv:2412.09871 §3.2.2, §3.3.1), in time linear in the bytes.

A byte belongs to one patch, so no score between a byte and another patch is computed: bytes fetch the vectors of their
patch, and softmax and sums run over the bytes of each patch.
"""

import math

import torch

from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm

EPS = 1e-5


def patch_max(x, ids, patches):
    """The maximum over the bytes of each patch; 0 for a patch without bytes.

    Shapes: x (B, T, d), ids (B, T) below ``patches`` -> (B, patches, d). Equal maxima share the gradient: the buffer
    begins below every number, for PyTorch counts an equal entry of the buffer as one of them.
    """
    rows = _rows(ids, patches)[:, None].expand(-1, x.shape[-1])
    least = torch.finfo(x.dtype).min
    largest = x.new_full((len(x) * patches, x.shape[-1]), least).scatter_reduce(0, rows, x.flatten(0, 1), "amax")
    return largest.masked_fill(largest == least, 0.0).view(len(x), patches, -1)


def pool_attention(x, data, ids, params, heads):
    """Attention of each patch's vectors over the bytes of the patch, plus x.

    Shapes: x (B, P, k, d), data (B, T, d), ids (B, T), params as in the attention of BLT: query_norm.weight and
    key_norm.weight (d,), query.weight (d, d), key_value.weight (2d, d), output.weight (d, d) -> (B, P, k, d).
    """
    batch, patches, slices, width = x.shape
    rows = _rows(ids, patches)
    query = linear(rms_norm(x, params["query_norm.weight"], EPS), params["query.weight"])
    key, value = linear(rms_norm(data, params["key_norm.weight"], EPS), params["key_value.weight"]).chunk(2, -1)
    wide = torch.promote_types(x.dtype, torch.float32)  # sums over many bytes
    query = query.to(wide).view(batch * patches, slices, heads, -1).index_select(0, rows)
    key, value = (part.to(wide).reshape(len(rows), 1, heads, -1) for part in (key, value))
    scores = (query * key).sum(-1) / math.sqrt(key.shape[-1])
    weights = _softmax_by_row(scores.flatten(1), rows, batch * patches).view(scores.shape)
    attended = x.new_zeros((batch * patches, slices * width), dtype=wide)
    attended = attended.index_add(0, rows, (weights[..., None] * value).flatten(1))
    return x + linear(attended.view(x.shape).to(x.dtype), params["output.weight"])


def unpool_attention(x, patches, ids, params, heads):
    """Attention of each byte over the k vectors of the patch that ids names, plus x.

    Shapes: x (B, T, d), patches (B, P, k, d), ids (B, T), params as in ``pool_attention`` -> (B, T, d).
    """
    batch, count, slices, width = patches.shape
    rows = _rows(ids, count)
    query = linear(rms_norm(x, params["query_norm.weight"], EPS), params["query.weight"])
    stacked = linear(rms_norm(patches, params["key_norm.weight"], EPS), params["key_value.weight"])
    stacked = stacked.view(batch * count, slices, 2, heads, -1).index_select(0, rows)
    key, value = stacked.unbind(2)
    query = query.reshape(len(rows), 1, heads, -1)
    wide = torch.promote_types(x.dtype, torch.float32)
    weights = torch.softmax((query.to(wide) * key).sum(-1) / math.sqrt(key.shape[-1]), 1)
    attended = (weights[..., None] * value).sum(1).to(x.dtype)
    return x + linear(attended.view(x.shape), params["output.weight"])


def _rows(ids, patches):
    """The row of each byte's patch where the patches of all texts lie in one table: (B T,)."""
    return (ids + patches * torch.arange(len(ids), device=ids.device)[:, None]).flatten()


def _softmax_by_row(scores, rows, count):
    """Softmax over the entries with the same row. Shapes: scores (N, s), rows (N,) below count -> (N, s)."""
    with torch.no_grad():  # the shift has no gradient: it cancels
        peak = scores.new_full((count, scores.shape[1]), -math.inf)
        peak = peak.scatter_reduce(0, rows[:, None].expand_as(scores), scores, "amax")
    weights = torch.exp(scores - peak.index_select(0, rows))
    total = scores.new_zeros((count, scores.shape[1])).index_add(0, rows, weights)
    return weights / total.index_select(0, rows)
