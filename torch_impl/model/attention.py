"""Attention: every position reads from the positions that it may see.

Masks are bool, True where a query may see a key. Causal masks are aligned at the end: the last query sees every key.
"""

import math

import torch
import torch.nn.functional as F

from torch_impl.model.activations import softcap as capped
from torch_impl.model.attention_backends import choose_backend, flex
from torch_impl.model.masks import alibi_bias, document_positions, document_runs, visible_keys
from torch_impl.model.softmax import softmax

TORCH_EXTRA_ARGUMENTS = {"device"}

_BLOCK = 128  # queries a block of windowed attention: more waste scores, fewer waste calls
_CAUSAL_BLOCK = 256  # the same of explicit causal attention, whose blocks differ in length


def scaled_dot_product_attention(query, key, value, mask=None, causal=False, scale=None, softcap=0.0, bias=None):
    """Scaled dot-product attention ("Attention Is All You Need" eq. 1).

        y = softmax(scale * query key^T, over visible keys) value        scale = 1 / sqrt(d) unless given

    softcap: bends the scaled scores (arXiv:2408.00118 §2); bias: constants added to them afterwards. Both before the
    mask. Query heads in groups of H/G share a key head (arXiv:2305.13245).

    Shapes: query (..., H, Tq, d), key (..., G, Tk, d), value (..., G, Tk, e), mask and bias broadcastable to
    (..., H, Tq, Tk) -> (..., H, Tq, e). A query that sees no key gives zeros and passes zero gradients.

    ``choose_backend`` says which kernel does it.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    queries, keys = query.shape[-2], key.shape[-2]
    backend = choose_backend(query, key, value, mask, causal, softcap, bias)
    key, value = _for_every_query_head(key, query), _for_every_query_head(value, query)
    if causal and mask is None and queries == keys and backend not in ("explicit", "scores"):
        # The kernel's own flag, which aligns at the start: right only for as many keys as queries.
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)

    if causal and mask is None and queries == keys > _CAUSAL_BLOCK and backend == "explicit":
        return _explicit_causal_attention(query, key, value, scale)

    visible, seeing = _visible(mask, causal and queries > 1, queries, keys, query.device), None
    if mask is not None or (causal and queries > keys):
        seeing = visible.any(-1, keepdim=True)
        visible = visible | ~seeing  # softmax over no key is 0/0: let blind queries see all, then discard what they saw
    if backend == "scores":
        y = _attention_with_scores(query, key, value, visible, scale, softcap, bias)
    elif backend == "explicit":
        y = _explicit_attention(query, key, value, visible, scale)
    else:
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scale)
    return y if seeing is None else torch.where(seeing, y, 0)


def attention_weights(query, key, mask=None, causal=False, scale=None, softcap=0.0, bias=None):
    """The probabilities that ``scaled_dot_product_attention`` weighs values with, for pictures.

    Shapes: query (..., H, Tq, d), key (..., G, Tk, d) -> (..., H, Tq, Tk).
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ _for_every_query_head(key, query).mT
    if softcap:
        scores = capped(scores, softcap)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    visible = _visible(mask, causal, query.shape[-2], key.shape[-2], query.device)
    return softmax(scores if visible is None else scores.masked_fill(~visible, -math.inf)).detach()


def sliding_window_attention(
    query, key, value, window, sinks=0, scale=None, softcap=0.0, slopes=None, documents=None
):
    """Causal self-attention over the last ``window`` keys, the query's own included, and the first ``sinks`` ones.

    Mistral (arXiv:2310.06825 §2); sinks: arXiv:2309.17453. Documents (B, T): runs of equal ids that do not see each
    other, negative ids are padding and give zeros; a document's sinks are its own first tokens. slopes (H,): ALiBi.

    Shapes: query (B, H, T, d), key (B, G, T, d), value (B, G, T, e) -> (B, H, T, e).

    Time and memory are linear in T: blocks of queries attend to their own block of keys and to those before it that the
    window reaches; the sinks come along as extra keys. On CUDA FlexAttention skips the blocks in its kernel.
    """
    length = query.shape[-2]
    if documents is None and length <= window and slopes is None:
        return scaled_dot_product_attention(query, key, value, None, True, scale, softcap)
    if documents is not None:
        documents = document_runs(documents)
    if query.is_cuda and choose_backend(query, key, value, window=window) == "flex":
        return flex(query, key, value, window, sinks, scale, softcap, slopes, documents)
    block = min(_BLOCK, 1 << max(4, (window - 1).bit_length()))
    reach = -(-(window - 1) // block)  # blocks that the window reaches back
    if length <= (reach + 1) * block or (documents is not None and sinks):
        return _masked_window(query, key, value, window, sinks, scale, softcap, slopes, documents)
    return _banded(query, key, value, window, sinks, scale, softcap, slopes, documents, block, reach)


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


def _for_every_query_head(shared, query):
    """(..., G, Tk, d) -> (..., H, Tk, d): query heads h r ... h r + r - 1 read head h."""
    if shared.ndim < 3 or shared.shape[-3] == query.shape[-3]:
        return shared
    return shared.repeat_interleave(query.shape[-3] // shared.shape[-3], -3)


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


def _explicit_causal_attention(query, key, value, scale):
    """The same for causal self-attention, a block of queries at a time over the keys up to its end: what lies behind,
    nearly half of the square, is not computed."""
    parts, end = [], 0
    for block in query.split(_CAUSAL_BLOCK, -2):
        end += block.shape[-2]
        visible = causal_mask(block.shape[-2], end, query.device)
        parts.append(_explicit_attention(block, key[..., :end, :], value[..., :end, :], visible, scale))
    return torch.cat(parts, -2)


def _attention_with_scores(query, key, value, visible, scale, softcap, bias):
    """What no fused kernel takes: scores in float32 or better, bent and biased, then softmax and the values."""
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = (query.to(wide) * scale) @ key.to(wide).mT
    if softcap:
        scores = capped(scores, softcap)
    if bias is not None:
        scores = scores + bias.to(wide)
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return (F.softmax(scores, -1) @ value.to(wide)).to(query.dtype)


def _masked_window(query, key, value, window, sinks, scale, softcap, slopes, documents):
    """Every score, most of them hidden: for texts hardly longer than a window."""
    if documents is None:
        positions = torch.arange(query.shape[-2], device=query.device)[None]
    else:
        positions = document_positions(documents)
    mask = visible_keys(positions, positions, window, sinks, documents, documents)
    bias = None if slopes is None else alibi_bias(positions, positions, slopes.to(query.device))
    return scaled_dot_product_attention(query, key, value, mask, False, scale, softcap, bias)


def _banded(query, key, value, window, sinks, scale, softcap, slopes, documents, block, reach):
    """Blocks of queries, each with the band of keys that it can see, as one batch: (B blocks, H, block, d)."""
    (batch, heads, length), device = query.shape[:3], query.device
    count = -(-length // block)
    place = torch.arange(count * block, device=device).view(1, -1)
    place = torch.where(place < length, place, -1)
    queries_at, keys_at = _blocks(place, block, -1), _band(place, block, reach, 0, -1)
    keys, values = (_band(x, block, reach, sinks, 0) for x in (key, value))
    if sinks:  # copies of the first keys, hidden where the band has the originals
        begins = (torch.arange(count, device=device) - reach) * block
        copies = torch.arange(min(sinks, length), device=device).expand(1, count, -1)
        copies = torch.where(copies < begins[:, None], copies, -1)
        keys_at = torch.cat((copies, keys_at), -1)
    theirs = own = None
    if documents is not None:
        own, theirs = _blocks(documents, block, -1).flatten(0, 1), _band(documents, block, reach, 0, -1).flatten(0, 1)
        place = document_positions(documents)
        queries_at, keys_at = _blocks(place, block, -1), _band(place, block, reach, 0, -1)
    rows = queries_at.shape[0]
    queries_at, keys_at = queries_at.flatten(0, 1), keys_at.flatten(0, 1)
    mask = visible_keys(queries_at, keys_at, window, sinks, own, theirs)
    bias = None if slopes is None else alibi_bias(queries_at, keys_at, slopes.to(device))
    if rows < batch:
        mask = mask.repeat(batch, 1, 1, 1)
        bias = None if bias is None else bias.repeat(batch, 1, 1, 1)
    blocks = _blocks(query, block, 0).flatten(0, 1)
    y = scaled_dot_product_attention(
        blocks, keys.flatten(0, 1), values.flatten(0, 1), mask, False, scale, softcap, bias
    )
    return y.unflatten(0, (batch, count)).transpose(1, 2).flatten(2, 3)[:, :, :length]


def _blocks(x, block, filling):
    """(B, T) -> (B, blocks, block); (B, heads, T, d) -> (B, blocks, heads, block, d). The last block is filled up."""
    if x.ndim == 2:
        return F.pad(x, (0, -x.shape[-1] % block), value=filling).unflatten(-1, (-1, block))
    return F.pad(x, (0, 0, 0, -x.shape[-2] % block)).unflatten(-2, (-1, block)).transpose(1, 2)


def _band(x, block, reach, sinks, filling):
    """Each block behind the ``reach`` blocks before it, and before those the first ``sinks`` entries.

    (B, T) -> (B, blocks, (reach + 1) block); (B, heads, T, d) -> (B, blocks, heads, sinks + (reach + 1) block, d).
    """
    blocks = _blocks(x, block, filling)
    axis, count = (-1 if x.ndim == 2 else -2), blocks.shape[1]
    pads = (0, 0) * (blocks.ndim - 2)
    shifted = [F.pad(blocks, (*pads, back, 0), value=filling)[:, :count] for back in range(reach, -1, -1)]
    if sinks:
        first = x[..., :sinks, :].unsqueeze(1)
        shifted.insert(0, first.expand(-1, count, *first.shape[2:]))
    return torch.cat(shifted, axis)
