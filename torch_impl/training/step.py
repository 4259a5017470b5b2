"""One training step: forward, backward, clip, update.

Mixed precision without autocast: the master weights stay float32, and each is cast once a step to the format in which
the whole model then computes. Autograd runs through the cast, so that gradients arrive in float32.
"""

import math

import torch

from numpy_ref.config import is_router
from numpy_ref.errors import UserError
from torch_impl.data.batches import IGNORED
from torch_impl.device import choose_dtype
from torch_impl.model.float8 import float8_params, require_float8
from torch_impl.model.transformer import dropout_masks, transformer
from torch_impl.sft.lora import adapt
from torch_impl.training.clipping import clip_by_global_norm_
from torch_impl.training.ema import ema_
from torch_impl.training.loss_scaling import update_scale
from torch_impl.training.losses import cross_entropy, linear_cross_entropy
from torch_impl.training.optimizer import update
from torch_impl.training.routing import routing_loss, routing_record, routing_settings, update_biases
from torch_impl.training.schedules import learning_rate

TORCH_ONLY = {"compute_dtype", "loss_denominator", "loss_share", "routed_tokens"}
TORCH_EXTRA_ARGUMENTS = {"forward", "parallel", "dtype"}


def loss_and_grads(
    params,
    inputs,
    targets,
    model_config,
    train_config,
    step,
    documents=None,
    forward=transformer,
    scale=1.0,
    weights=None,
    frozen=None,
    record=None,
):
    """The mean loss of a batch and its gradient.

    Shapes: params name -> (...), inputs and targets (B, T) integers on the device of params. Returns (loss (), a tensor
    in nats per token; name -> gradient, in shape and format of the parameter). Dropout masks follow from the step.
    documents (B, T): texts that share a row, see ``transformer``. weights (B, T): of the targets, see ``cross_entropy``.
    frozen: (weights, LoRA) where params are trained beside weights that stay as they are, see ``sft/lora.py``.
    ``forward``: ``transformer`` or ``torch.compile(transformer)``. ``scale``: the loss is multiplied by it before the
    backward pass and the gradients divided after, which float16 needs.

    Gradient accumulation: ``accumulate`` equal parts of the rows, one after the other, each divided by the number of
    targets (or the weight) that counts in all of them, summed in the format of the parameters. UserError where the rows
    don't divide.

    With experts the loss is the sum of cross-entropy and ``routing_loss``; the dict ``record`` gets the latter as "loss" ()
    and the sums of ``routing_record``. Routers keep the format of the parameters.
    """
    if len(inputs) % train_config.accumulate:
        raise UserError(f"accumulate={train_config.accumulate} does not divide the {len(inputs)} rows of the batch")
    dtype = compute_dtype(params, model_config, train_config)
    leaves = {
        name: param.detach().to(param.dtype if is_router(name) else dtype).requires_grad_()
        for name, param in params.items()
    }
    computing = leaves
    if frozen:
        frozen, lora = frozen
        frozen = {name: value if is_router(name) else value.to(dtype) for name, value in frozen.items()}
    if train_config.float8:
        require_float8(inputs.device, params)
        computing = float8_params(leaves)
    denominator = loss_denominator(targets, weights)
    size, total, sums = len(inputs) // train_config.accumulate, None, None
    for first in range(0, len(inputs), size):
        rows = slice(first, first + size)
        keep = dropout_masks(model_config, size, inputs.shape[1], train_config.seed, step, first, inputs.device)
        own, shares = (None if tensor is None else tensor[rows] for tensor in (documents, weights))
        if frozen:  # a graph of its own for each backward pass
            computing = adapt(frozen, leaves, model_config, lora)
        routing = routing_settings(model_config, train_config, size, inputs.shape[1], step, first, inputs.device)
        routed = routing and (routing, routed_tokens(inputs, documents))
        loss, sums_of_routing = loss_share(
            inputs[rows], targets[rows], computing, model_config, train_config, keep, own, denominator, forward, shares,
            routed,
        )  # fmt: skip
        if record is not None:
            record.update({name: record.get(name, 0) + value for name, value in sums_of_routing.items()})
        grads = torch.autograd.grad(
            loss * scale if scale != 1 else loss, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        grads = [grad.to(param.dtype) for grad, param in zip(grads, params.values())]
        if sums is None:
            total, sums = loss.detach(), grads
        else:
            total += loss.detach()
            torch._foreach_add_(sums, grads)
    if scale != 1:
        torch._foreach_div_(sums, scale)
    return total, dict(zip(leaves, sums))


def loss_denominator(targets, weights=None, over=None):
    """How many of the targets count, or what they weigh; 1 for 0. (), a tensor: counting does not wait for the device.

    ``over(total)``: the sum of it over all processes.
    """
    counts = targets != IGNORED
    total = (counts if weights is None else counts * weights).sum()
    total = over(total) if over else total
    return total.where(total != 0, 1)


def routed_tokens(inputs, documents):
    """How many tokens go to experts: all but padding. A number, or a tensor () that nobody has to wait for."""
    return inputs.numel() if documents is None else (documents >= 0).sum().clamp(min=1)


def loss_share(
    inputs, targets, params, config, train_config, keep, documents, denominator, forward, weights=None, routed=None
):
    """These rows' share of the loss (); where the logits are many, or not all wanted, they exist in chunks only. And what
    goes to the record of their routing, {} for a dense model. ``routed``: (routing, ``routed_tokens`` of the whole step)."""
    chunk = train_config.loss_rows(targets.numel(), config.vocab_size)
    whole = chunk >= targets.numel() and weights is None
    settings = {"label_smoothing": train_config.label_smoothing, "z_loss": train_config.z_loss}
    more = {"routing": routed[0]} if routed else {}
    y = forward(
        inputs, params, config, keep=keep, documents=documents, recompute=train_config.recompute, logits=whole, **more
    )
    asked, record = 0.0, {}
    if routed:
        y, routes = y
        asked = routing_loss(routes, config, train_config, routed[1])
        record = routing_record(routes, config) | {"loss": asked.detach()}
    if whole:
        return cross_entropy(y, targets, denominator=denominator, **settings) + asked, record
    head = params["token_embedding.weight" if config.tie_embeddings else "output.weight"]
    loss = linear_cross_entropy(
        y, head, targets, config.logit_softcap, denominator=denominator, chunk=chunk, weights=weights, **settings
    )
    return loss + asked, record


def train_step(
    params,
    states,
    inputs,
    targets,
    model_config,
    train_config,
    step,
    documents=None,
    forward=transformer,
    parallel=None,
    weights=None,
    frozen=None,
):
    """One optimiser step on a batch, in place.

    Shapes as in ``loss_and_grads``; states as from ``init_states``. Returns ({"loss", "lr", "grad_norm", "skipped"},
    params, states), the same dicts as came in. Loss and norm are tensors.

    A step whose loss or gradient norm is not finite is skipped: "skipped" is True, weights and optimiser stay as they
    are. To know that, the host waits for the backward pass once a step; the next batch is best fetched before.
    In float16 states["loss_scale"] keeps the dynamic loss scale, which a skipped step halves. With ``ema`` set,
    states["ema"] is the moving average of the weights, from those before the first step on.
    Of a mixture of experts the loss is the cross-entropy alone; "routing" has the routers' terms and what they did, and
    balancing biases move at the end.
    ``parallel``: the other processes (see ``parallel.Parallel``); the batch is then this one's part.
    """
    dtype = compute_dtype(params, model_config, train_config)
    scale = loss_scale(states, train_config, dtype)["scale"]
    routed = {}
    if parallel:
        loss, grads = parallel.loss_and_grads(inputs, targets, step, documents, scale, weights, routed)
    else:
        loss, grads = loss_and_grads(
            params, inputs, targets, model_config, train_config, step, documents, forward, scale, weights, frozen, routed
        )
    metrics, params, states = apply_gradients(params, states, loss, grads, train_config, step, dtype, parallel)
    if routed:
        metrics |= {"loss": loss - routed["loss"], "routing": routed}
        if model_config.router_bias and not frozen and not metrics["skipped"]:
            share = parallel and parallel.share
            update_biases(params, routed["load"], model_config, train_config.router_bias_rate, share)
    return metrics, params, states


def apply_gradients(params, states, loss, grads, train_config, step, dtype=None, parallel=None):
    """What follows the backward pass of any loss: clipping, the update in place, the moving average.

    loss (), a tensor; grads as from ``loss_and_grads``; dtype: the format in which the step computed (``compute_dtype``).
    Returns what ``train_step`` returns.
    """
    lr = learning_rate(step, train_config)
    norm = clip_by_global_norm_(grads, train_config.clip, parallel and parallel.global_norm(grads))
    skipped = not math.isfinite(loss + norm)  # waits for the device
    if dtype == torch.float16:
        scaling = loss_scale(states, train_config, dtype)
        scaling["scale"], scaling["good_steps"] = update_scale(*scaling.values(), not skipped)
    if not skipped:
        if train_config.ema and "ema" not in states:
            states["ema"] = {name: param.clone() for name, param in params.items()}
        # Newton-Schulz in float16 would lose small gradients, which have no scale there.
        orthogonal = parallel and parallel.orthogonal
        update(params, grads, states, lr, train_config, dtype if dtype == torch.bfloat16 else None, orthogonal)
        if train_config.ema:
            ema_(states["ema"], params, train_config.ema, step)
    return {"loss": loss, "lr": lr, "grad_norm": norm, "skipped": skipped}, params, states


def loss_scale(states, train_config, dtype=None):
    """{"scale", "good_steps"} of dynamic loss scaling, kept in ``states`` where the step computes in float16."""
    if dtype != torch.float16:
        return {"scale": 1.0, "good_steps": 0}
    return states.setdefault("loss_scale", {"scale": 2.0**16, "good_steps": 0})


def compute_dtype(params, model_config, train_config):
    """The format in which a step computes: as the config says; "auto" leaves float64 weights in float64."""
    weight = next(iter(params.values()))
    if train_config.dtype == "auto" and weight.dtype != torch.float32:
        return weight.dtype
    return choose_dtype(train_config.dtype, weight.device, model_config)
