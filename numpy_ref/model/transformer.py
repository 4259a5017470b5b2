"""The whole model: token ids in, a score for every possible next token out."""

from functools import partial

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.hyperbolic.layers import hyperbolic_embedding
from numpy_ref.model.activations import softcap
from numpy_ref.model.block import block
from numpy_ref.model.dropout import dropout, dropout_mask
from numpy_ref.model.embedding import embedding
from numpy_ref.model.linear import linear
from numpy_ref.model.masks import document_positions
from numpy_ref.model.norms import norm
from numpy_ref.model.parameters import with_prefix
from numpy_ref.model.positions import learned_positions, rope_phases, sinusoidal_positions
from numpy_ref.precision import Rounded, stored
from numpy_ref.rng import STREAM_DROPOUT


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
):
    """A decoder: every position predicts the token after it and sees nothing of the future.

        x = drop(embedding_scale * E[tokens] + positions)
        x = block(x)                                        once for each layer
        logits = norm(x) W^T                                the norm with pre-norm blocks only; W = E where tied;
                                                            bent by ``softcap`` where the config says so

    params: dict with the names and shapes of ``parameter_shapes(config)``. config: ModelConfig.
    mask: bool, True where a query may see a key, broadcastable to (B, heads, T, T); the causal mask comes on top.
    keep: None, or {"embedding": mask, "blocks": [(attention, feed-forward), ...]} of dropout masks (B, T, d).
    documents: None, or ids (B, T) of texts that share a row: each is a run of equal ids, sees itself alone and counts
    its positions from 0. A negative id is padding; its logits mean nothing, and nothing depends on it.
    recompute: keep only what enters a block, and compute the block anew in the backward pass (arXiv:1604.06174): memory
    for one block instead of all, for one more forward pass.
    positions: None, or whole numbers (B, T), where they are not those of one text: with a mask, several texts that begin
    alike can share the beginning. They are below the context; windows go by place in the row.
    logits: False ends before the output head, for losses that hold the logits in parts (``linear_cross_entropy``).
    routing: None, or in training what each layer's ``moe`` takes, a list; then the value is (y, routes), with the route
    of each layer that has experts, and the vjp takes their dlogits as a second argument, a list.

    Shapes: tokens (B, T) of whole numbers -> logits (B, T, V), or the normed x (B, T, d) that W would turn into them.
    vjp: its cotangent -> grads with the keys of params.
    Raises UserError for more tokens than the context, for ids outside the vocabulary, and for logits of a reward model.

    Backward: the parts in reverse. A parameter that is used twice, the tied embedding, gets the sum of both gradients.
    """
    if positions is None:
        _check_length(tokens, config)
    if logits and config.output == "reward":
        raise UserError("a reward model has no scores of next tokens; give a model of text")
    if positions is None:
        positions = np.arange(tokens.shape[1])[None] if documents is None else document_positions(documents)
    x, embed_vjp = embed(tokens, positions, params, config, None if keep is None else keep["embedding"])
    phases = rope_phases(positions, config, x.dtype) if config.positions == "rope" else None
    run = partial(_recomputed, block) if recompute else block
    block_vjps, routes = [], []
    for layer in range(config.layers):
        block_keep = None if keep is None else keep["blocks"][layer]
        own, block_routing = with_prefix(params, f"blocks.{layer}"), None if routing is None else routing[layer]
        x, block_vjp = run(x, own, config, mask, True, block_keep, layer, phases, documents, block_routing)
        if routing is not None:
            x, route = x
            routes += [route] if route else []
        block_vjps.append(block_vjp)
    y, head_vjp = (head if logits else _final_norm)(x, params, config)

    def vjp(dy, dlogits=None):
        dx, grads = head_vjp(dy)
        asked = dict(zip(config.moe_layers, dlogits or (), strict=False))
        for layer in reversed(range(config.layers)):
            dx, block_grads = block_vjps[layer](dx, *([asked[layer]] if layer in asked else []))
            grads |= {f"blocks.{layer}.{name}": grad for name, grad in block_grads.items()}
        for name, grad in embed_vjp(dx).items():
            grads[name] = grads[name] + grad if name in grads else grad
        return {name: grads[name] if name in grads else np.zeros_like(param) for name, param in params.items()}

    return y if routing is None else (y, routes), vjp


def dropout_masks(config, batch, length, seed, step, first=0):
    """The dropout masks of one training step, or None where ``config.dropout`` is 0.

    Every place in the model draws from its own stream: place 0 is the embedding, 1 + 2 layer the attention of a block
    and 2 + 2 layer its feed-forward network; a step has 2 layers + 1 of them. A micro-batch that begins at row
    ``first`` of the step's batch gets the masks that those rows have in the whole.
    """
    if config.dropout == 0:
        return None
    start, row = STREAM_DROPOUT + step * (2 * config.layers + 1), length * config.width

    def keep(place):
        return dropout_mask(seed, start + place, (batch, length, config.width), config.dropout, first * row)

    blocks = [(keep(1 + 2 * layer), keep(2 + 2 * layer)) for layer in range(config.layers)]
    return {"embedding": keep(0), "blocks": blocks}


def embed(tokens, positions, params, config, keep=None):
    """What enters the first block: drop(embedding_scale * E[tokens] + positions).

    With an embedding_curvature E[tokens] are tangent vectors, for which the space coordinates of exp_0(E[tokens]) stand.

    Shapes: tokens (B, T), positions (B or 1, T), -1 for padding -> x (B, T, d);  vjp: dx (B, T, d) -> grads.
    """
    if config.embedding_curvature:
        x, curved_vjp = hyperbolic_embedding(tokens, params["token_embedding.weight"], config.embedding_curvature)
        x, token_vjp = config.embedding_scale * x, lambda dx: curved_vjp(config.embedding_scale * dx)[0]
    else:
        x, token_vjp = embedding(tokens, params["token_embedding.weight"], config.embedding_scale)
    positions = np.maximum(positions, 0)
    position_vjp = None
    if config.positions == "learned":
        places, position_vjp = learned_positions(positions, params["position_embedding.weight"])
        x = x + places
    elif config.positions == "sinusoidal":
        x = x + _like(sinusoidal_positions(positions, config.width, x.dtype), x)
    y, drop_vjp = dropout(x, keep, config.dropout)

    def vjp(dy):
        dx = drop_vjp(dy)
        grads = {"token_embedding.weight": token_vjp(dx)}
        if position_vjp is not None:  # rows that share their positions share the gradient
            shared = np.sum(dx, axis=0, keepdims=True) if len(positions) == 1 else dx
            grads["position_embedding.weight"] = position_vjp(shared)
        return grads

    return y, vjp


def head(x, params, config):
    """What leaves the last block: logits = norm(x) W^T, bent where the config says so.

    Shapes: x (B, T, d) -> logits (B, T, V);  vjp: dlogits (B, T, V) -> dx (B, T, d), grads.
    """
    cap_vjp = None
    x, norm_vjp = _final_norm(x, params, config)
    output = "token_embedding.weight" if config.tie_embeddings else "output.weight"
    logits, output_vjp = linear(x, params[output])
    if config.logit_softcap:
        logits, cap_vjp = softcap(logits, config.logit_softcap)

    def vjp(dlogits):
        dx, dweight, _ = output_vjp(dlogits if cap_vjp is None else cap_vjp(dlogits))
        dx, grads = norm_vjp(dx)
        return dx, grads | {output: dweight}

    return logits, vjp


def _final_norm(x, params, config):
    """The norm in front of the output head; post-norm blocks have one already.  vjp: dy -> dx, grads."""
    if config.norm_position == "post":
        return x, lambda dy: (dy, {})
    y, norm_vjp = norm(x, with_prefix(params, "final_norm"), config.norm, config.norm_eps)

    def vjp(dy):
        dx, grads = norm_vjp(dy)
        return dx, {f"final_norm.{name}": grad for name, grad in grads.items()}

    return y, vjp


def _recomputed(function, *arguments):
    """function(*arguments), whose vjp runs the forward pass again rather than keep what it made on the way."""

    def vjp(*dy):
        return function(*arguments)[1](*dy)

    return function(*arguments)[0], vjp


def _like(constants, x):
    """Constants in the format in which x is stored."""
    return stored(constants, x.format) if isinstance(x, Rounded) else constants


def _check_length(tokens, config):
    if tokens.shape[1] > config.context and not config.endless:
        raise UserError(
            f"{tokens.shape[1]} tokens are longer than the model's context of {config.context}; "
            f"give at most {config.context} or train with a larger context"
        )
