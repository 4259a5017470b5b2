"""One training step: loss, gradients, clipping, update."""

from numpy_ref.model.transformer import dropout_masks, transformer
from numpy_ref.training.clipping import clip_by_global_norm
from numpy_ref.training.losses import cross_entropy
from numpy_ref.training.optimizer import update
from numpy_ref.training.schedules import warmup_cosine


def loss_and_grads(params, inputs, targets, model_config, train_config, step):
    """Mean loss of a batch and the gradient of every parameter. The number format is that of the parameters.

    inputs, targets: (B, T) of whole numbers; step: from 0, draws the dropout masks.
    Returns loss (), grads with the keys and shapes of params.
    """
    keep = dropout_masks(model_config, *inputs.shape, train_config.seed, step)
    logits, model_vjp = transformer(inputs, params, model_config, keep=keep)
    loss, loss_vjp = cross_entropy(
        logits, targets, label_smoothing=train_config.label_smoothing, z_loss=train_config.z_loss
    )
    return loss, model_vjp(loss_vjp(1.0))


def train_step(params, states, inputs, targets, model_config, train_config, step):
    """One step of training on one batch.

    params: name -> array; states: from ``init_states``; inputs, targets: (B, T) of whole numbers; step: from 0.
    Returns {"loss": nats per token before the step, "lr", "grad_norm": before clipping}, new params, new states.
    """
    loss, grads = loss_and_grads(params, inputs, targets, model_config, train_config, step)
    grads, norm = clip_by_global_norm(grads, train_config.clip)
    lr = warmup_cosine(step, train_config.steps, train_config.lr, train_config.warmup, train_config.final_lr)
    params, states = update(params, grads, states, lr, train_config)
    return {"loss": loss, "lr": lr, "grad_norm": norm}, params, states
