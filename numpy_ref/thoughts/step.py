"""One training step of a model with units of thought."""

import numpy as np

from numpy_ref.thoughts.model import unit_transformer
from numpy_ref.training.clipping import clip_by_global_norm
from numpy_ref.training.losses import cross_entropy
from numpy_ref.training.optimizer import update


def loss_and_grads(params, tokens, targets, config, settings, places=()):
    """The cross-entropy of the words behind units, in nats per word, and the gradient of every parameter.

    Units have no loss of their own: they learn from what is said after them. Codes are never said, so their scores take no
    part in the cross-entropy; it would only push all of them away from every hidden state alike.

    Shapes: tokens, targets (B, T), places as of ``unit_transformer`` -> loss (), grads with the keys of params.
    """
    logits, model_vjp = unit_transformer(tokens, params, config, settings, places)
    said = logits.shape[-1] - settings.codes
    loss, loss_vjp = cross_entropy(logits[..., :said], targets)
    dlogits = np.zeros_like(logits)
    dlogits[..., :said] = loss_vjp(1.0)
    return loss, model_vjp(dlogits)


def train_step(params, states, tokens, targets, config, train_config, settings, lr, places=()):
    """One step of the optimiser at the learning rate ``lr``, with gradients clipped to ``train_config.clip``.

    Returns {"loss", "lr", "grad_norm" before clipping}, new params, new states.
    """
    loss, grads = loss_and_grads(params, tokens, targets, config, settings, places)
    grads, norm = clip_by_global_norm(grads, train_config.clip)
    params, states = update(params, grads, states, lr, train_config)
    return {"loss": loss, "lr": lr, "grad_norm": norm}, params, states
