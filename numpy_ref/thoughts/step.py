"""One training step of a model with units of thought."""

import numpy as np

from numpy_ref.thoughts.codes import code_loss, code_table
from numpy_ref.thoughts.model import unit_states
from numpy_ref.thoughts.stream import word_logits
from numpy_ref.training.clipping import clip_by_global_norm
from numpy_ref.training.losses import cross_entropy
from numpy_ref.training.optimizer import update


def loss_and_grads(params, tokens, targets, config, settings, places=()):
    """The cross-entropy of the words behind units, in nats per word, and the gradient of every parameter.

    Thoughts have no loss of their own: they learn from what is said after them. Codes have ``code_loss`` on top, which is
    part of the loss here. They are never said, so the scores of their ids take no part in the cross-entropy; it would only
    push all of them away from every hidden state alike.

    Shapes: tokens, targets (B, T), places as of ``unit_states`` -> loss (), grads with the keys of params.
    """
    states, states_vjp = unit_states(tokens, params, config, settings, places)
    logits, logits_vjp = word_logits(states, params, config)
    said = logits.shape[-1] - settings.codes
    loss, loss_vjp = cross_entropy(logits[..., :said], targets)
    dlogits = np.zeros_like(logits)
    dlogits[..., :said] = loss_vjp(1.0)
    dstates, found = logits_vjp(dlogits)
    parts = [found]
    if settings.kind == "code" and places:
        before = np.array(places) - 1
        table, table_vjp = code_table(params, config, settings)
        apart, apart_vjp = code_loss(states[:, before], table, settings.commitment)
        dbefore, dtable = apart_vjp(1.0)
        loss, dstates = loss + apart, np.array(dstates)
        dstates[:, before] += dbefore
        parts.append(table_vjp(dtable))
    grads = states_vjp(dstates)
    for name, grad in [pair for part in parts for pair in part.items()]:
        grads[name] = grads[name] + grad
    return loss, grads


def train_step(params, states, tokens, targets, config, train_config, settings, lr, places=()):
    """One step of the optimiser at the learning rate ``lr``, with gradients clipped to ``train_config.clip``.

    Returns {"loss", "lr", "grad_norm" before clipping}, new params, new states.
    """
    loss, grads = loss_and_grads(params, tokens, targets, config, settings, places)
    grads, norm = clip_by_global_norm(grads, train_config.clip)
    params, states = update(params, grads, states, lr, train_config)
    return {"loss": loss, "lr": lr, "grad_norm": norm}, params, states
