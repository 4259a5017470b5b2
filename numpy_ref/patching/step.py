"""One training step of a byte model, and how well it predicts a text."""

import numpy as np

from numpy_ref.patching.model import byte_model
from numpy_ref.training.clipping import clip_by_global_norm
from numpy_ref.training.losses import cross_entropy
from numpy_ref.training.optimizer import update


def loss_and_grads(params, inputs, targets, config, starts=None):
    """The loss of a batch and the gradient of every parameter.

        loss = cross-entropy of the next byte + ratio_weight auxiliary loss

    inputs, targets: (B, T) of whole numbers; starts: (B, T + 1), see ``byte_model``.
    Returns ({"loss": cross-entropy in nats per byte (), "auxiliary": (), "patches": their number}, grads with the keys
    of params).
    """
    (logits, auxiliary, patches), model_vjp = byte_model(inputs, params, config, starts)
    loss, loss_vjp = cross_entropy(logits, targets)
    grads = model_vjp(loss_vjp(1.0), np.asarray(config.ratio_weight, auxiliary.dtype))
    return {"loss": loss, "auxiliary": auxiliary, "patches": np.sum(patches)}, grads


def train_step(params, states, inputs, targets, config, train_config, lr, starts=None):
    """One step of the optimiser at the learning rate ``lr``; gradients are clipped to ``train_config.clip`` first.

    Returns (metrics as in ``loss_and_grads``, with "grad_norm" before clipping), new params, new states.
    """
    metrics, grads = loss_and_grads(params, inputs, targets, config, starts)
    grads, norm = clip_by_global_norm(grads, train_config.clip)
    params, states = update(params, grads, states, lr, train_config)
    return metrics | {"grad_norm": norm}, params, states


def total_nats(params, inputs, targets, config, starts=None):
    """How surprised the model is by all targets together, in nats; without the auxiliary loss. Shapes as above -> ()."""
    (logits, *_), _ = byte_model(inputs, params, config, starts)
    return cross_entropy(logits, targets, reduction="sum")[0]
