"""Quant-LCM (arXiv:2412.08821 §2.4): scores of codes, or what they should add."""

from torch_impl.model.block import with_prefix
from torch_impl.model.feed_forward import feed_forward
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm


def code_logits(context, partial, params, config, first=0):
    """One head for all codebooks; which one, and what the codes before it say, is added to the context.

    Shapes: context (B, T, d), partial (B, T, J, c) -> (B, T, J, K), for residual (B, T, J, c). first: number of the first of the J codebooks.
    """
    books = params["codebook_embedding.weight"][first : first + partial.shape[2]]
    x = context[:, :, None] + linear(partial, params["partial.weight"]) + books
    x = x + feed_forward(rms_norm(x, params["head_norm.weight"]), with_prefix(params, "head"))
    return linear(rms_norm(x, params["final_norm.weight"]), params["output.weight"])
