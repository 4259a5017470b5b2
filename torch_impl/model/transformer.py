"""The decoder-only transformer: token ids to the logits of each next token."""

from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from numpy_ref.errors import UserError
from torch_impl.hyperbolic.layers import hyperbolic_embedding
from torch_impl.model.activations import softcap
from torch_impl.model.block import block
from torch_impl.model.dropout import dropout, dropout_mask
from torch_impl.model.embedding import embedding
from torch_impl.model.linear import linear
from torch_impl.model.masks import document_positions
from torch_impl.model.norms import norm
from torch_impl.model.parameters import with_prefix
from torch_impl.model.positions import learned_positions, rope_phases, sinusoidal_positions
from torch_impl.model.residual import residual
from torch_impl.rng import STREAM_DROPOUT

TORCH_ONLY = {"Transformer"}
TORCH_EXTRA_ARGUMENTS = {"device", "run_block"}


def transformer(
    tokens,
    params,
    config,
    mask=None,
    keep=None,
    documents=None,
    recompute=False,
    logits=True,
    positions=None,
    routing=None,
    run_block=block,
):
    """Logits of the next token after each position (Radford et al. 2018, with the blocks of ``block``).

        x = drop(scale * embedding(tokens) + positions)        x = block(x) for each layer
        logits = norm(x) W^T, where W is the token embedding if tied; post-norm blocks have normalised x already;
        softcap bends them if the config has one

    Shapes: tokens (B, T) integers below vocab_size, mask broadcastable to (B, heads, T, T), keep None or
    {"embedding": (B, T, d), "blocks": [((B, T, d), (B, T, d)), ...]} bool -> (B, T, V), in the format of the weights.
    documents (B, T): runs of equal ids are texts that don't see each other, each with positions from 0; a negative id is
    padding, whose logits mean nothing. Raises UserError if T is above config.context, unless the model is endless.

    recompute: each block's activations are dropped and made again in the backward pass (arXiv:1604.06174).
    logits=False: (B, T, d) instead, normed, as the output matrix takes it; for ``linear_cross_entropy``.
    routing: in training, what ``moe`` takes in each layer; then (logits, routes of the layers with experts) comes back.
    positions (B, T): of each token, below the context, if not its place in the row or document; windows still count
    places.
    run_block: called in place of ``block``, with its arguments.
    """
    length = tokens.shape[-1]
    if positions is None and length > config.context and not config.endless:
        raise UserError(f"{length} tokens do not fit the model's context of {config.context}; give at most that many")
    if logits and config.output == "reward":
        raise UserError("this is a reward model, which predicts no tokens; give a model of text")
    keep = keep or {"embedding": None, "blocks": [None] * config.layers}
    if positions is None:
        places = torch.arange(length, device=tokens.device)[None]
        positions = places if documents is None else document_positions(documents)

    x = embed(tokens, positions, params, config, keep["embedding"])
    phases = rope_phases(positions, config, x.dtype) if config.positions == "rope" else None
    # Dropout masks are arguments: there is no random state to restore.
    run = partial(checkpoint, run_block, use_reentrant=False, preserve_rng_state=False) if recompute else run_block
    routes = []
    for layer in range(config.layers):
        own = with_prefix(params, f"blocks.{layer}")
        x = run(
            x, own, config, mask, True, keep["blocks"][layer], layer, phases, documents, routing and routing[layer]
        )
        if routing:
            x, route = x
            routes += [route] if route else []
    y = (head if logits else _final_norm)(x, params, config)
    return (y, routes) if routing else y


def embed(tokens, positions, params, config, keep=None):
    """Token embeddings and positions, as they enter the first block.

    Shapes: tokens (B, T), positions (B or 1, T) integers, -1 for padding, keep (B, T, d)? -> (B, T, d).
    """
    if config.embedding_curvature:
        x = hyperbolic_embedding(tokens, params["token_embedding.weight"], config.embedding_curvature) * config.embedding_scale
    else:
        x = embedding(tokens, params["token_embedding.weight"], config.embedding_scale)
    if config.positions == "sinusoidal":
        x = residual(x, sinusoidal_positions(positions.clamp(min=0), config.width, x.dtype))
    elif config.positions == "learned":
        x = residual(x, learned_positions(positions.clamp(min=0), params["position_embedding.weight"]))
    return dropout(x, keep, config.dropout)


def head(x, params, config):
    """Final norm, output projection and softcap, as the config has them. Shapes: x (..., d) -> logits (..., V)."""
    x = _final_norm(x, params, config)
    logits = linear(x, params["token_embedding.weight" if config.tie_embeddings else "output.weight"])
    return softcap(logits, config.logit_softcap) if config.logit_softcap else logits


def _final_norm(x, params, config):
    if config.norm_position == "pre":
        x = norm(x, with_prefix(params, "final_norm"), config.norm, config.norm_eps)
    return x


def dropout_masks(config, batch, length, seed, step, first=0, device=None):
    """What each dropout of one training step keeps, in the form that ``transformer`` takes; None without dropout.

    Site 0 is the embedding, 1 + 2 layer the attention and 2 + 2 layer the feed-forward of a layer; every site of every
    step has its own stream, and each row of the step's batch its own place there: ``first`` is the row to begin with.
    """
    if config.dropout == 0:
        return None
    sites, shape = 2 * config.layers + 1, (batch, length, config.width)
    offset = first * length * config.width
    masks = [
        dropout_mask(seed, STREAM_DROPOUT + step * sites + site, shape, config.dropout, offset, device)
        for site in range(sites)
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
            trained = not name.endswith("router.bias")  # moved by the loads alone
            module.register_parameter(leaf, torch.nn.Parameter(value, requires_grad=trained))

    def forward(self, tokens, mask=None, keep=None, documents=None):
        return transformer(tokens, dict(self.named_parameters()), self.config, mask, keep, documents)
