"""Models that tell which of two words a pseudo-word stands for."""

import torch

from numpy_ref.context.config import EPS
from torch_impl.context.modulate import film, gated
from torch_impl.context.past import past_attention, past_mean
from torch_impl.model.block import block
from torch_impl.model.embedding import embedding
from torch_impl.model.norms import rms_norm
from torch_impl.model.parameters import with_prefix
from torch_impl.model.positions import rope_phases

TORCH_EXTRA_ARGUMENTS = {"last"}


def contextual(x, params, config, last=None):
    """Word vectors in their contexts: static, bag, gate, film or plain. Shapes: x (B, T, d) -> (B, T, d), or (B, last, d),
    which is less work where only the last words are asked for."""
    own = x if last is None else x[:, -last:]
    if config.kind == "static":
        return own
    if config.kind == "plain":
        phases = rope_phases(torch.arange(x.shape[1], device=x.device)[None], config.block, x.dtype)
        return block(x, with_prefix(params, "blocks.0"), config.block, phases=phases)[:, -own.shape[1] :]
    if config.kind == "bag":
        return gated(own, past_mean(x, config.span, last), with_prefix(params, "gate"))
    context = past_attention(x, with_prefix(params, "past"), config.heads, last)
    if config.kind == "film":
        return film(own, context, with_prefix(params, "film"))
    return gated(own, context, with_prefix(params, "gate"))


def sense_model(tokens, pairs, params, config):
    """Scores of both words for the last word of each row. Shapes: tokens (n, T), pairs (n,) -> (n, 2)."""
    h = contextual(embedding(tokens, params["word_embedding.weight"]), params, config, last=1)[:, -1]
    y = rms_norm(h, params["final_norm.weight"], EPS)
    return (params["senses.weight"][pairs] @ y[..., None]).squeeze(-1)
