"""Which of two words stood here: models of a pseudo-word in its context."""

import numpy as np

from numpy_ref.context.config import EPS
from numpy_ref.context.modulate import film, gated
from numpy_ref.context.past import past_attention, past_mean
from numpy_ref.model.embedding import embedding
from numpy_ref.model.norms import rms_norm
from numpy_ref.model.parameters import with_prefix
from numpy_ref.model.positions import rope_phases
from numpy_ref.model.block import block


def contextual(x, params, config):
    """The vectors of words where they stand, by the model that ``config.kind`` names.

    No place depends on what follows it. Shapes: x (B, T, d) -> (B, T, d);  vjp: dy -> dx, grads with the keys of params
    that were used.
    """
    if config.kind == "static":
        return x, lambda dy: (dy.copy(), {})
    if config.kind == "plain":
        phases = rope_phases(np.arange(x.shape[1])[None], config.block, x.dtype)
        y, block_vjp = block(x, with_prefix(params, "blocks.0"), config.block, phases=phases)

        def plain_vjp(dy):
            dx, grads = block_vjp(dy)
            return dx, _under("blocks.0", grads)

        return y, plain_vjp
    past_vjp, bag_vjp = None, None
    if config.kind == "bag":
        c, bag_vjp = past_mean(x, config.span)
    else:
        c, past_vjp = past_attention(x, with_prefix(params, "past"), config.heads)
    name, modulate = ("film", film) if config.kind == "film" else ("gate", gated)
    y, modulate_vjp = modulate(x, c, with_prefix(params, name))

    def vjp(dy):
        dx, dc, grads = modulate_vjp(dy)
        grads = _under(name, grads)
        if bag_vjp is not None:
            return dx + bag_vjp(dc), grads
        dx_past, past_grads = past_vjp(dc)
        return dx + dx_past, grads | _under("past", past_grads)

    return y, vjp


def sense_model(tokens, pairs, params, config):
    """Scores of the two words that the last word of each row may be.

        y = norm(contextual(E[tokens])) at the last place        logits_k = y . W[pair, k]

    Shapes: tokens (n, T) of whole numbers, pairs (n,) of the last words -> (n, 2);  vjp: dy -> grads with the keys of params.
    """
    x, embedding_vjp = embedding(tokens, params["word_embedding.weight"])
    h, contextual_vjp = contextual(x, params, config)
    y, norm_vjp = rms_norm(h[:, -1], params["final_norm.weight"], EPS)
    table = params["senses.weight"]
    words = table[pairs]

    def vjp(dy):
        dtable = np.zeros_like(table)
        np.add.at(dtable, pairs, dy[:, :, None] * y[:, None])
        dlast, dnorm = norm_vjp((dy[:, None] @ words)[:, 0])
        dh = np.zeros_like(h)
        dh[:, -1] = dlast
        dx, grads = contextual_vjp(dh)
        grads |= {"final_norm.weight": dnorm, "senses.weight": dtable, "word_embedding.weight": embedding_vjp(dx)}
        return {name: grads[name] for name in params}

    return (words @ y[:, :, None])[..., 0], vjp


def _under(prefix, grads):
    return {f"{prefix}.{name}": grad for name, grad in grads.items()}
