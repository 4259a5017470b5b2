"""Training a byte model, step by step."""

import torch

from torch_impl.patching.model import byte_model
from torch_impl.training.clipping import clip_by_global_norm_
from torch_impl.training.losses import cross_entropy
from torch_impl.training.optimizer import update

TORCH_EXTRA_ARGUMENTS = {"dtype"}


def loss_and_grads(params, inputs, targets, config, starts=None, dtype=None):
    """The cross-entropy of the next byte plus ``ratio_weight`` times the auxiliary loss, and its gradient.

    Shapes: inputs and targets (B, T), starts (B, T + 1)?. dtype: in which the model computes (None: the parameters').
    Returns ({"loss": nats per byte, without the rest, "auxiliary", "patches": their number}, name -> gradient in the
    parameter's format).
    """
    leaves = {name: param.detach().requires_grad_() for name, param in params.items()}
    weights = leaves if dtype is None else {name: leaf.to(dtype) for name, leaf in leaves.items()}
    logits, auxiliary, patches = byte_model(inputs, weights, config, starts)
    loss = cross_entropy(logits, targets)
    whole = loss + config.ratio_weight * auxiliary if config.kind == "hnet" else loss
    grads = torch.autograd.grad(whole, list(leaves.values()))
    metrics = {"loss": loss.detach(), "auxiliary": auxiliary.detach(), "patches": patches.sum()}
    return metrics, dict(zip(leaves, grads))


def train_step(params, states, inputs, targets, config, train_config, lr, starts=None, dtype=None):
    """One optimiser step in place, gradients clipped to ``train_config.clip``.

    Returns (the metrics of ``loss_and_grads`` and "grad_norm"), params, states: the dicts that came in.
    """
    metrics, grads = loss_and_grads(params, inputs, targets, config, starts, dtype)
    norm = clip_by_global_norm_(grads, train_config.clip)
    update(params, grads, states, lr, train_config)
    return metrics | {"grad_norm": norm}, params, states


@torch.inference_mode()
def total_nats(params, inputs, targets, config, starts=None, dtype=None):
    """The summed cross-entropy of all targets in nats, without the auxiliary loss. Shapes as above -> ()."""
    weights = params if dtype is None else {name: param.to(dtype) for name, param in params.items()}
    return cross_entropy(byte_model(inputs, weights, config, starts)[0], targets, reduction="sum")
