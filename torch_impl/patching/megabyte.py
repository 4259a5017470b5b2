"""MegaByte (arXiv:2305.07185): a global model over patches of fixed size, a local one inside all of them at once."""

import torch
import torch.nn.functional as F

from torch_impl.model.block import with_prefix
from torch_impl.model.embedding import embedding
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm
from torch_impl.patching.byte_stack import byte_embedding, byte_head, stack


def megabyte(tokens, params, config):
    """Next-byte logits. The global model reads the bytes of the patch before, the local model those of its own.

    Shapes: tokens (B, T), T of any length -> (B, T, 256).
    """
    length, size = tokens.shape[1], config.patch
    padded = F.pad(tokens, (0, -length % size))
    earlier = embedding(padded[:, :-size], params["patch_embedding.weight"])
    first = params["first_patch.weight"].expand(len(tokens), 1, -1)
    late = torch.cat((first, earlier.reshape(len(tokens), -1, config.global_width)), 1)
    seen = stack(late, with_prefix(params, "global"), config.stack("global"))
    g = rms_norm(seen, params["global_norm.weight"], config.stack("global").norm_eps)
    parts = linear(g.view(*padded.shape, -1), params["unpatch.weight"])
    local = (byte_embedding(padded, params) + parts).view(-1, size, config.width)
    local = stack(local, with_prefix(params, "decoder"), config.stack("decoder"))
    return byte_head(local.view(*padded.shape, -1)[:, :length], params, config)
