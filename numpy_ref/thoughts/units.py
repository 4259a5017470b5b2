"""From a hidden state to the input vector of the unit that follows it."""

import numpy as np

from numpy_ref.model.softmax import softmax
from numpy_ref.thoughts.stream import word_logits


def quantise(scores, table, straight_through=True):
    """One vector of a table for each row of scores: the best one, with the gradient of the mean that they would weigh.

        p = softmax(s)        y = E_j, j = argmax s        dy is passed back as if y were p E

    The straight-through estimator (arXiv:1308.3432) for a choice by softmax (arXiv:1611.01144, section 2.2, without
    noise). straight_through=False: y = p E itself, a soft choice, whose derivative this vjp is.

    Shapes: scores (..., K), table (K, d) -> (..., d);  vjp: dy -> dscores, dtable. The first of equal scores wins.
    """
    weights, softmax_vjp = softmax(scores)
    soft = weights @ table

    def vjp(dy):
        flat = weights.reshape(-1, weights.shape[-1])
        return softmax_vjp(dy @ table.T), flat.T @ dy.reshape(-1, dy.shape[-1])

    return table[np.argmax(scores.real, axis=-1)] if straight_through else soft, vjp


def next_unit(hidden, params, config, settings, straight_through=True):
    """The vector that the model is given at the place of a unit, from the last hidden state before it.

        thought    the hidden state itself (arXiv:2412.06769, section 3)
        code       the embedding of one of the last ``codes`` ids of the vocabulary, chosen by the scores of the output head

    Shapes: hidden (B, d) -> (B, d);  vjp: dy -> dhidden, grads of the parameters that were used.
    """
    if settings.kind == "thought":
        return hidden, lambda dy: (dy.copy(), {})
    logits, logits_vjp = word_logits(hidden, params, config)
    table = config.embedding_scale * params["token_embedding.weight"][-settings.codes :]
    unit, quantise_vjp = quantise(logits[:, -settings.codes :], table, straight_through)

    def vjp(dy):
        dscores, dtable = quantise_vjp(dy)
        dlogits = np.zeros_like(logits)
        dlogits[:, -settings.codes :] = dscores
        dhidden, grads = logits_vjp(dlogits)
        dembedding = np.zeros_like(params["token_embedding.weight"])
        dembedding[-settings.codes :] = config.embedding_scale * dtable
        dembedding = dembedding + grads.get("token_embedding.weight", 0.0)
        return dhidden, grads | {"token_embedding.weight": dembedding}

    return unit, vjp
