"""Byte Latent Transformer (arXiv:2412.09871)."""

from torch_impl.model.block import with_prefix
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm
from torch_impl.patching.byte_stack import byte_embedding, byte_head, stack
from torch_impl.patching.cross_attention import patch_max, pool_attention, unpool_attention
from torch_impl.tokenizers.patches import complete_ids, patch_ids


def blt(tokens, params, config, starts):
    """Next-byte logits: local encoder, patches by maximum and cross-attention, global transformer, cross-attention back,
    local decoder.

    A byte reads the last patch that is complete where it stands, so that no patch tells of bytes to come.
    Shapes: tokens (B, T), starts (B, T + 1) bool from a patcher -> (B, T, 256). The number of patches is fetched from
    the device.
    """
    ids = patch_ids(starts)
    count = int(ids.max()) + 1
    h = stack(byte_embedding(tokens, params), with_prefix(params, "encoder"), config.stack("encoder"))
    x = linear(patch_max(h, ids, count), params["pool.weight"])
    slices = x.view(len(x), count, config.slices, config.width)
    x = pool_attention(slices, h, ids, with_prefix(params, "gather"), config.heads).flatten(2)
    x = stack(x, with_prefix(params, "global"), config.stack("global"))
    x = rms_norm(x, params["global_norm.weight"], config.stack("global").norm_eps).view(slices.shape)
    x = unpool_attention(h, x, complete_ids(starts), with_prefix(params, "spread"), config.heads)
    return byte_head(stack(x, with_prefix(params, "decoder"), config.stack("decoder")), params, config)
