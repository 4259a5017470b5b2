"""The parts of all byte models: embedding, stacks of blocks, head; and the transformer over bytes itself."""

import torch

from torch_impl.model.block import block, with_prefix
from torch_impl.model.embedding import embedding
from torch_impl.model.hash_ngrams import hash_ngrams
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm
from torch_impl.model.positions import rope_phases


def byte_embedding(tokens, params):
    """The vectors of the bytes plus those of their hashed n-grams, if there are tables "ngrams.N.weight".

    Shapes: tokens (B, T), byte_embedding.weight (256, d), ngrams.N.weight (rows, d)? -> (B, T, d).
    """
    x, tables = embedding(tokens, params["byte_embedding.weight"]), with_prefix(params, "ngrams")
    return x + hash_ngrams(tokens, tables) if tables else x


def stack(x, params, config):
    """The blocks of ``config`` with RoPE, causal. Shapes: x (B, T, d), params "blocks.N. ..." -> (B, T, d)."""
    phases = rope_phases(torch.arange(x.shape[1], device=x.device)[None], config, x.dtype)
    for layer in range(config.layers):
        x = block(x, with_prefix(params, f"blocks.{layer}"), config, layer=layer, phases=phases)
    return x


def byte_head(x, params, config):
    """RMS norm and output matrix. Shapes: x (B, T, d) -> (B, T, 256)."""
    return linear(rms_norm(x, params["final_norm.weight"], config.stack("decoder").norm_eps), params["output.weight"])


def byte_transformer(tokens, params, config):
    """The baseline without patches. Shapes: tokens (B, T) -> (B, T, 256)."""
    x = stack(byte_embedding(tokens, params), with_prefix(params, "decoder"), config.stack("decoder"))
    return byte_head(x, params, config)


def under(prefix, grads):
    """The entries under names that begin with "prefix.": ``with_prefix`` undone."""
    return {f"{prefix}.{name}": grad for name, grad in grads.items()}
