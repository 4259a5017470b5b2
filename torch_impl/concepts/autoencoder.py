"""Sentences to concepts and back (arXiv:2412.08821 uses SONAR; this one is small and learns from bytes)."""

import torch
import torch.nn.functional as F

from torch_impl.model.block import block, with_prefix
from torch_impl.model.embedding import embedding
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm
from torch_impl.model.positions import rope_phases
from torch_impl.patching.byte_stack import byte_head, stack


def mean_pool(x, lengths):
    """Mean of the first ``lengths`` places. Shapes: x (B, T, d), lengths (B,) -> (B, d); sums in float32 or better."""
    inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    wide = torch.promote_types(x.dtype, torch.float32)
    share = inside / lengths[:, None].to(wide)
    return torch.einsum("btd,bt->bd", x.to(wide), share).to(x.dtype)


def encode_sentences(tokens, lengths, params, config):
    """Blocks in which all bytes of a sentence see each other, norm, mean, projection, and a norm without weights.

    Shapes: tokens (B, L), lengths (B,) -> (B, c).
    """
    own = config.stack("encoder")
    x, places = embedding(tokens, params["byte_embedding.weight"]), torch.arange(tokens.shape[1], device=tokens.device)
    mask, phases = (places < lengths[:, None])[:, None, None], rope_phases(places[None], own, x.dtype)
    for layer in range(config.layers):
        weights = with_prefix(params, f"encoder.blocks.{layer}")
        x = block(x, weights, own, mask, causal=False, layer=layer, phases=phases)
    pooled = mean_pool(rms_norm(x, params["encoder_norm.weight"], own.norm_eps), lengths)
    z = linear(pooled, params["to_concept.weight"])
    return rms_norm(z, torch.ones_like(z[0]), own.norm_eps)


def decode_logits(concepts, tokens, params, config):
    """Next-token scores; the concept is added to every place. Shapes: concepts (B, c), tokens (B, L) -> (B, L, 257)."""
    said = F.pad(embedding(tokens[:, :-1], params["byte_embedding.weight"]), (0, 0, 1, 0))
    x = said + linear(concepts, params["from_concept.weight"])[:, None]
    return byte_head(stack(x, with_prefix(params, "decoder"), config.stack("decoder")), params, config)
