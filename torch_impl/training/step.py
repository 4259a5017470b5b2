"""One training step: forward, backward, clip, update.

Mixed precision without autocast: the master weights stay float32, and each is cast once a step to the format in which
the whole model then computes. Autograd runs through the cast, so that gradients arrive in float32.
"""

import math

import torch

from torch_impl.device import choose_dtype
from torch_impl.model.transformer import dropout_masks, transformer
from torch_impl.training.clipping import clip_by_global_norm_
from torch_impl.training.loss_scaling import update_scale
from torch_impl.training.losses import cross_entropy
from torch_impl.training.optimizer import update
from torch_impl.training.schedules import warmup_cosine

TORCH_ONLY = {"compute_dtype"}
TORCH_EXTRA_ARGUMENTS = {"forward", "scale"}


def loss_and_grads(params, inputs, targets, model_config, train_config, step, forward=transformer, scale=1.0):
    """The mean loss of a batch and its gradient.

    Shapes: params name -> (...), inputs and targets (B, T) integers on the device of params. Returns (loss (), a tensor
    in nats per token; name -> gradient, in shape and format of the parameter). Dropout masks follow from the step.
    ``forward``: ``transformer`` or ``torch.compile(transformer)``. ``scale``: the loss is multiplied by it before the
    backward pass and the gradients divided after, which float16 needs.
    """
    dtype = compute_dtype(params, model_config, train_config)
    leaves = {name: param.detach().requires_grad_() for name, param in params.items()}
    weights = {name: leaf.to(dtype) for name, leaf in leaves.items()}
    keep = dropout_masks(model_config, *inputs.shape, train_config.seed, step, inputs.device)
    logits = forward(inputs, weights, model_config, keep=keep)
    loss = cross_entropy(logits, targets, label_smoothing=train_config.label_smoothing, z_loss=train_config.z_loss)
    grads = torch.autograd.grad(loss * scale if scale != 1 else loss, list(leaves.values()))
    if scale != 1:
        torch._foreach_div_(grads, scale)
    return loss.detach(), dict(zip(leaves, grads))


def train_step(params, states, inputs, targets, model_config, train_config, step, forward=transformer):
    """One optimiser step on a batch, in place.

    Shapes as in ``loss_and_grads``; states as from ``init_states``. Returns ({"loss", "lr", "grad_norm"}, params,
    states), the same dicts as came in. Loss and norm are tensors: reading them waits for the device, so do it rarely.

    In float16 states["loss_scale"] keeps the dynamic loss scale; a step whose gradients overflow changes nothing else.
    """
    lr = warmup_cosine(step, train_config.steps, train_config.lr, train_config.warmup, train_config.final_lr)
    dtype = compute_dtype(params, model_config, train_config)
    scaling = states.setdefault("loss_scale", {"scale": 2.0**16, "good_steps": 0}) if dtype == torch.float16 else None
    loss, grads = loss_and_grads(
        params, inputs, targets, model_config, train_config, step, forward, scaling["scale"] if scaling else 1.0
    )
    norm = clip_by_global_norm_(grads, train_config.clip)
    finite = True
    if scaling:
        finite = math.isfinite(norm)  # waits for the device: the price of float16
        scaling["scale"], scaling["good_steps"] = update_scale(*scaling.values(), finite)
    if finite:
        # Newton-Schulz in float16 would lose small gradients, which have no scale there.
        update(params, grads, states, lr, train_config, dtype if dtype == torch.bfloat16 else None)
    return {"loss": loss, "lr": lr, "grad_norm": norm}, params, states


def compute_dtype(params, model_config, train_config):
    """The format in which a step computes: as the config says; "auto" leaves float64 weights in float64."""
    weight = params["token_embedding.weight"]
    if train_config.dtype == "auto" and weight.dtype != torch.float32:
        return weight.dtype
    return choose_dtype(train_config.dtype, weight.device, model_config)
