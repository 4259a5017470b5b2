"""The decoder-only transformer: token ids to the logits of each next token."""

import torch

from numpy_ref.errors import UserError
from torch_impl.model.block import block, with_prefix
from torch_impl.model.dropout import dropout, dropout_mask
from torch_impl.model.embedding import embedding
from torch_impl.model.linear import linear
from torch_impl.model.norms import layer_norm
from torch_impl.model.positions import learned_positions, sinusoidal_positions
from torch_impl.model.residual import residual
from torch_impl.rng import STREAM_DROPOUT

TORCH_ONLY = {"Transformer"}
TORCH_EXTRA_ARGUMENTS = {"device"}


def transformer(tokens, params, config, mask=None, keep=None):
    """Logits of the next token after each position (Radford et al. 2018, with the blocks of ``block``).

        x = drop(scale * embedding(tokens) + positions)        x = block(x) for each layer
        logits = norm(x) W^T, where W is the token embedding if tied; post-norm blocks have normalised x already

    Shapes: tokens (B, T) integers below vocab_size, mask broadcastable to (B, heads, T, T), keep None or
    {"embedding": (B, T, d), "blocks": [((B, T, d), (B, T, d)), ...]} bool -> (B, T, V), in the format of the weights.
    Raises UserError if T is above config.context.
    """
    length = tokens.shape[-1]
    if length > config.context:
        raise UserError(f"{length} tokens do not fit the model's context of {config.context}; give at most that many")
    keep = keep or {"embedding": None, "blocks": [None] * config.layers}

    x = embedding(tokens, params["token_embedding.weight"], config.embedding_scale)
    positions = torch.arange(length, device=tokens.device)
    if config.positions == "sinusoidal":
        x = residual(x, sinusoidal_positions(positions, config.width, x.dtype))
    elif config.positions == "learned":
        x = residual(x, learned_positions(positions, params["position_embedding.weight"]))
    x = dropout(x, keep["embedding"], config.dropout)
    for layer in range(config.layers):
        x = block(x, with_prefix(params, f"blocks.{layer}"), config, mask, keep=keep["blocks"][layer])
    if config.norm_position == "pre":
        x = layer_norm(x, params["final_norm.weight"], params.get("final_norm.bias"), config.norm_eps)
    return linear(x, params["token_embedding.weight" if config.tie_embeddings else "output.weight"])


def dropout_masks(config, batch, length, seed, step, device=None):
    """What each dropout of one training step keeps, in the form that ``transformer`` takes; None without dropout.

    Site 0 is the embedding, 1 + 2 layer the attention and 2 + 2 layer the feed-forward of a layer; every site of every
    step has its own stream.
    """
    if config.dropout == 0:
        return None
    sites, shape = 2 * config.layers + 1, (batch, length, config.width)
    masks = [
        dropout_mask(seed, STREAM_DROPOUT + step * sites + site, shape, config.dropout, device) for site in range(sites)
    ]
    return {"embedding": masks[0], "blocks": list(zip(masks[1::2], masks[2::2]))}


class Transformer(torch.nn.Module):
    """The parameters as a module, for tools that want one: ``state_dict`` has the names of ``parameter_shapes``."""

    def __init__(self, config, params):
        super().__init__()
        self.config = config
        for name, value in params.items():
            *path, leaf = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, torch.nn.Module())
                module = module._modules[part]
            module.register_parameter(leaf, torch.nn.Parameter(value))

    def forward(self, tokens, mask=None, keep=None):
        return transformer(tokens, dict(self.named_parameters()), self.config, mask, keep)
