"""Training a model with units of thought, step by step."""

import torch

from torch_impl.thoughts.codes import code_loss, code_table
from torch_impl.thoughts.model import unit_states
from torch_impl.thoughts.stream import word_logits
from torch_impl.training.clipping import clip_by_global_norm_
from torch_impl.training.losses import cross_entropy
from torch_impl.training.optimizer import update


def loss_and_grads(params, tokens, targets, config, settings, places=()):
    """Nats per predicted word, among all ids but codes, plus ``code_loss``; and its gradient through all units.

    Shapes: tokens, targets (B, T) -> (), name -> grad.
    """
    leaves = {name: param.detach().requires_grad_() for name, param in params.items()}
    states = unit_states(tokens, leaves, config, settings, places)
    loss = cross_entropy(word_logits(states, leaves, config)[..., : -settings.codes], targets)
    if settings.kind == "code" and places:
        before = states[:, [place - 1 for place in places]]
        loss = loss + code_loss(before, code_table(leaves, config, settings), settings.commitment)
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return loss.detach(), dict(zip(leaves, grads))


def train_step(params, states, tokens, targets, config, train_config, settings, lr, places=()):
    """One step in place. Returns {"loss", "lr", "grad_norm"}, params, states: the dicts that came in."""
    loss, grads = loss_and_grads(params, tokens, targets, config, settings, places)
    norm = clip_by_global_norm_(grads, train_config.clip)
    update(params, grads, states, lr, train_config)
    return {"loss": loss, "lr": lr, "grad_norm": norm}, params, states
