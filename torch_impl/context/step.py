"""Training a model of pseudo-words, step by step."""

import torch

from torch_impl.context.senses import sense_model
from torch_impl.training.clipping import clip_by_global_norm_
from torch_impl.training.losses import cross_entropy
from torch_impl.training.optimizer import update


def loss_and_grads(params, tokens, pairs, senses, config):
    """Nats per occurrence and its gradient. Shapes: tokens (n, T), pairs, senses (n,) -> (), name -> grad."""
    leaves = {name: param.detach().requires_grad_() for name, param in params.items()}
    loss = cross_entropy(sense_model(tokens, pairs, leaves, config), senses)
    return loss.detach(), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))


def train_step(params, states, tokens, pairs, senses, config, train_config, lr):
    """One step in place. Returns {"loss", "lr", "grad_norm"}, params, states: the dicts that came in."""
    loss, grads = loss_and_grads(params, tokens, pairs, senses, config)
    norm = clip_by_global_norm_(grads, train_config.clip)
    update(params, grads, states, lr, train_config)
    return {"loss": loss, "lr": lr, "grad_norm": norm}, params, states
