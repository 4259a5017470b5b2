"""The whole model: token ids in, a score for every possible next token out."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.block import block, with_prefix
from numpy_ref.model.dropout import dropout, dropout_mask
from numpy_ref.model.embedding import embedding
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import layer_norm
from numpy_ref.model.positions import learned_positions, sinusoidal_positions
from numpy_ref.rng import STREAM_DROPOUT


def transformer(tokens, params, config, mask=None, keep=None):
    """A decoder: every position predicts the token after it and sees nothing of the future.

        x = drop(embedding_scale * E[tokens] + positions)
        x = block(x)                                        once for each layer
        logits = norm(x) W^T                                the norm with pre-norm blocks only; W = E where tied

    params: dict with the names and shapes of ``parameter_shapes(config)``. config: ModelConfig.
    mask: bool, True where a query may see a key, broadcastable to (B, heads, T, T); the causal mask comes on top.
    keep: None, or {"embedding": mask, "blocks": [(attention, feed-forward), ...]} of dropout masks (B, T, d).

    Shapes: tokens (B, T) of whole numbers -> logits (B, T, V).
    vjp: dlogits (B, T, V) -> grads with the keys of params.
    Raises UserError for more tokens than the context and for ids outside the vocabulary.

    Backward: the parts in reverse. A parameter that is used twice, the tied embedding, gets the sum of both gradients.
    """
    _check_length(tokens, config)
    x, embed_vjp = _embed(tokens, params, config, None if keep is None else keep["embedding"])
    block_vjps = []
    for layer in range(config.layers):
        block_keep = None if keep is None else keep["blocks"][layer]
        x, block_vjp = block(x, with_prefix(params, f"blocks.{layer}"), config, mask, True, block_keep)
        block_vjps.append(block_vjp)
    logits, head_vjp = _head(x, params, config)

    def vjp(dlogits):
        dx, grads = head_vjp(dlogits)
        for layer in reversed(range(config.layers)):
            dx, block_grads = block_vjps[layer](dx)
            grads |= {f"blocks.{layer}.{name}": grad for name, grad in block_grads.items()}
        for name, grad in embed_vjp(dx).items():
            grads[name] = grads[name] + grad if name in grads else grad
        return {name: grads[name] for name in params}

    return logits, vjp


def dropout_masks(config, batch, length, seed, step):
    """The dropout masks of one training step, or None where ``config.dropout`` is 0.

    Every place in the model draws from its own stream: place 0 is the embedding, 1 + 2 layer the attention of a block
    and 2 + 2 layer its feed-forward network; a step has 2 layers + 1 of them.
    """
    if config.dropout == 0:
        return None
    first = STREAM_DROPOUT + step * (2 * config.layers + 1)

    def keep(place):
        return dropout_mask(seed, first + place, (batch, length, config.width), config.dropout)

    blocks = [(keep(1 + 2 * layer), keep(2 + 2 * layer)) for layer in range(config.layers)]
    return {"embedding": keep(0), "blocks": blocks}


def _embed(tokens, params, config, keep):
    """drop(embedding_scale * E[tokens] + positions): (B, T) -> (B, T, d); vjp: dx -> grads."""
    x, token_vjp = embedding(tokens, params["token_embedding.weight"], config.embedding_scale)
    positions = np.arange(tokens.shape[1])
    position_vjp = None
    if config.positions == "learned":
        places, position_vjp = learned_positions(positions, params["position_embedding.weight"])
        x = x + places
    elif config.positions == "sinusoidal":
        x = x + sinusoidal_positions(positions, config.width, x.dtype)
    y, drop_vjp = dropout(x, keep, config.dropout)

    def vjp(dy):
        dx = drop_vjp(dy)
        grads = {"token_embedding.weight": token_vjp(dx)}
        if position_vjp is not None:  # all rows of the batch share the positions
            grads["position_embedding.weight"] = position_vjp(np.sum(dx, axis=0))
        return grads

    return y, vjp


def _head(x, params, config):
    """norm(x) W^T: (B, T, d) -> logits (B, T, V); vjp: dlogits -> dx, grads."""
    norm, norm_vjp = with_prefix(params, "final_norm"), None
    if config.norm_position == "pre":
        x, norm_vjp = layer_norm(x, norm["weight"], norm.get("bias"), config.norm_eps)
    output = "token_embedding.weight" if config.tie_embeddings else "output.weight"
    logits, output_vjp = linear(x, params[output])

    def vjp(dlogits):
        grads = {}
        dx, grads[output], _ = output_vjp(dlogits)
        if norm_vjp is not None:
            dx, grads["final_norm.weight"], grads["final_norm.bias"] = norm_vjp(dx)
        return dx, grads

    return logits, vjp


def _check_length(tokens, config):
    if tokens.shape[1] > config.context:
        raise UserError(
            f"{tokens.shape[1]} tokens are longer than the model's context of {config.context}; "
            f"give at most {config.context} or train with a larger context"
        )
