"""One training step of a model that tells pseudo-words apart."""

from numpy_ref.context.senses import sense_model
from numpy_ref.training.clipping import clip_by_global_norm
from numpy_ref.training.losses import cross_entropy
from numpy_ref.training.optimizer import update


def loss_and_grads(params, tokens, pairs, senses, config):
    """The cross-entropy of which word it was, in nats, and the gradient of every parameter.

    Shapes: tokens (n, T), pairs and senses (n,) -> loss (), grads with the keys of params.
    """
    logits, model_vjp = sense_model(tokens, pairs, params, config)
    loss, loss_vjp = cross_entropy(logits, senses)
    return loss, model_vjp(loss_vjp(1.0))


def train_step(params, states, tokens, pairs, senses, config, train_config, lr):
    """One step of the optimiser. Returns {"loss", "lr", "grad_norm" before clipping}, new params, new states."""
    loss, grads = loss_and_grads(params, tokens, pairs, senses, config)
    grads, norm = clip_by_global_norm(grads, train_config.clip)
    params, states = update(params, grads, states, lr, train_config)
    return {"loss": loss, "lr": lr, "grad_norm": norm}, params, states
