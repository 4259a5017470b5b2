"""A transformer from vectors to vectors: what thoughts need, since their inputs are no tokens."""

import numpy as np

from numpy_ref.model.activations import softcap
from numpy_ref.model.block import block
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import norm
from numpy_ref.model.parameters import with_prefix
from numpy_ref.model.positions import learned_positions, rope_phases, sinusoidal_positions
from numpy_ref.thoughts.settings import require_plain


def hidden_states(x, params, config, past=None):
    """The last hidden states of inputs that follow others: what the output matrix is given, after the final norm.

        y = norm(blocks(input + position))

    past: None, or what the call for the inputs before has returned. Here these are the inputs themselves, (B, P, d), and
    all is computed anew, which is the definition; a fast version keeps the keys and values.

    Shapes: x (B, n, d), n >= 1 -> (y (B, n, d), past with x);  vjp: dy (B, n, d) -> dx, dpast (None without one), grads
    of the parameters that were used. Raises UserError for a model with a window, ALiBi, dropout or experts.
    """
    require_plain(config)
    before = 0 if past is None else past.shape[1]
    inputs = x if past is None else np.concatenate([past, x], axis=1)
    places = np.arange(inputs.shape[1])[None]
    h, place_vjp, block_vjps, norm_vjp = inputs, None, [], None
    if config.positions == "learned":
        vectors, place_vjp = learned_positions(places, params["position_embedding.weight"])
        h = h + vectors
    elif config.positions == "sinusoidal":
        h = h + sinusoidal_positions(places, config.width, x.dtype)
    phases = rope_phases(places, config, x.dtype) if config.positions == "rope" else None
    for layer in range(config.layers):
        h, block_vjp = block(h, with_prefix(params, f"blocks.{layer}"), config, layer=layer, phases=phases)
        block_vjps.append(block_vjp)
    if config.norm_position == "pre":
        h, norm_vjp = norm(h, with_prefix(params, "final_norm"), config.norm, config.norm_eps)

    def vjp(dy):
        dh, grads = np.zeros_like(h), {}
        dh[:, before:] = dy
        if norm_vjp is not None:
            dh, found = norm_vjp(dh)
            grads |= {f"final_norm.{name}": grad for name, grad in found.items()}
        for layer in reversed(range(config.layers)):
            dh, found = block_vjps[layer](dh)
            grads |= {f"blocks.{layer}.{name}": grad for name, grad in found.items()}
        if place_vjp is not None:
            grads["position_embedding.weight"] = place_vjp(np.sum(dh, axis=0, keepdims=True))
        return dh[:, before:], None if past is None else dh[:, :before], grads

    return (h[:, before:], inputs), vjp


def past_rows(past, rows):
    """The past of some rows: ``rows`` (n,) are their numbers, in any order, also several times."""
    return past[rows]


def word_logits(hidden, params, config):
    """Scores of the next token from hidden states that are normed already.

    Shapes: hidden (..., d) -> (..., V);  vjp: dy -> dhidden, grads of the output matrix.
    """
    name = "token_embedding.weight" if config.tie_embeddings else "output.weight"
    logits, output_vjp = linear(hidden, params[name])
    cap_vjp = None
    if config.logit_softcap:
        logits, cap_vjp = softcap(logits, config.logit_softcap)

    def vjp(dy):
        dhidden, dweight, _ = output_vjp(dy if cap_vjp is None else cap_vjp(dy))
        return dhidden, {name: dweight}

    return logits, vjp
