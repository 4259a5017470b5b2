"""One training step: loss, gradients, clipping, update."""

import numpy as np

from numpy_ref.config import is_router
from numpy_ref.data.batches import IGNORED
from numpy_ref.errors import UserError
from numpy_ref.model.float8 import float8_params
from numpy_ref.model.transformer import dropout_masks, transformer
from numpy_ref.precision import stored
from numpy_ref.sft.lora import adapt
from numpy_ref.training.clipping import clip_by_global_norm
from numpy_ref.training.ema import ema
from numpy_ref.training.loss_scaling import update_scale
from numpy_ref.training.losses import cross_entropy, linear_cross_entropy
from numpy_ref.training.optimizer import update
from numpy_ref.training.routing import routing_loss, routing_record, routing_settings, update_biases
from numpy_ref.training.schedules import learning_rate

_HALVES = ("bfloat16", "float16")


def loss_and_grads(
    params, inputs, targets, model_config, train_config, step, documents=None, scale=1.0, weights=None, frozen=None,
    record=None,
):
    """Mean loss of a batch and the gradient of every parameter.

    The number format is that of the parameters; in training with dtype bfloat16 or float16 it is float32, rounded to
    that format wherever Torch would store 16 bits (`precision.py`). ``scale`` multiplies the loss before the backward
    pass and is divided out of the gradients: in float16 small ones would vanish.

    inputs, targets: (B, T) of whole numbers; step: from 0, draws the dropout masks; documents: None, or ids (B, T) of
    texts that share a row (see ``transformer``): the target of a document's last token belongs to the next one, so
    callers ignore it. weights: None, or (B, T): what each target counts in the mean (see ``cross_entropy``).
    frozen: None, or (weights, LoRA): params are then what is trained beside them (see ``sft/lora.py``).

    With ``accumulate`` = k the rows go through the model in k parts. Every part divides by the number of tokens (or the
    weight) that counts in the whole batch, so that the sums over the parts are the batch's own loss and gradients: a mean of the
    parts' means would give more weight to tokens of parts that have few.

    Of a mixture of experts the loss has the routers' terms in it (``routing_loss``), and the dict ``record``, where given,
    takes up the sums of ``routing_record`` and "loss" (), what those terms are. Routers are not rounded to 16 bits.

    Returns loss (), grads with the keys and shapes of params. Raises UserError where k does not divide B.
    """
    counts = targets != IGNORED
    denominator = float(np.sum(counts if weights is None else counts * weights)) or 1.0
    half = train_config.dtype if train_config.dtype in _HALVES else None
    computing, adapt_vjp = params, None
    if frozen:
        base, lora = frozen
        computing, adapt_vjp = adapt(base, params, model_config, lora)
    if half:
        computing = {name: param if is_router(name) else stored(param, half) for name, param in computing.items()}
    computing = float8_params(computing) if train_config.float8 else computing
    loss, grads = None, None
    for rows in _micro_batches(len(inputs), train_config.accumulate):
        keep = dropout_masks(model_config, rows.stop - rows.start, inputs.shape[1], train_config.seed, step, rows.start)
        own, share = (None if array is None else array[rows] for array in (documents, weights))
        routing = routing_settings(model_config, train_config, len(inputs[rows]), inputs.shape[1], step, rows.start)
        routed = routing and (routing, max(1, inputs.size if documents is None else int(np.sum(documents >= 0))), record)
        part, vjp = _loss(
            computing, inputs[rows], targets[rows], model_config, train_config, keep, own, denominator, share, routed
        )
        part_grads = vjp(scale)
        part_grads = adapt_vjp(part_grads) if adapt_vjp else part_grads
        if half:
            part_grads = {name: np.asarray(grad) / scale for name, grad in part_grads.items()}
        loss = part if loss is None else loss + part
        grads = part_grads if grads is None else {name: grads[name] + grad for name, grad in part_grads.items()}
    return loss, grads


def _micro_batches(rows, parts):
    """Slices that cut ``rows`` into equal parts."""
    if rows % parts:
        raise UserError(f"{rows} rows can't be cut into accumulate={parts} equal parts; take a divisor of {rows}")
    size = rows // parts
    return [slice(start, start + size) for start in range(0, rows, size)]


def _loss(params, inputs, targets, model_config, train_config, keep, documents, denominator, weights, routed):
    """The share of these rows in the loss ();  vjp: dy -> grads. Many logits are never held all at once.

    routed: None, or with experts (routing, how many tokens the step routes, record).
    """
    routing, tokens, record = routed or (None, None, None)
    settings = {"label_smoothing": train_config.label_smoothing, "z_loss": train_config.z_loss}
    chunk = train_config.loss_rows(targets.size, model_config.vocab_size)
    whole = chunk >= targets.size
    y, model_vjp = transformer(
        inputs,
        params,
        model_config,
        keep=keep,
        documents=documents,
        recompute=train_config.recompute,
        logits=whole,
        routing=routing,
    )
    asked, asked_vjp = 0.0, lambda dy: None
    if routing:
        y, routes = y
        asked, asked_vjp = routing_loss(routes, model_config, train_config, tokens)
        _add_to(record, routing_record(routes, model_config) | {"loss": asked})
    if whole:
        loss, loss_vjp = cross_entropy(y, targets, **settings, denominator=denominator, weights=weights)
        return loss + asked, lambda dy: model_vjp(loss_vjp(dy), asked_vjp(dy))
    head = "token_embedding.weight" if model_config.tie_embeddings else "output.weight"
    loss, loss_vjp = linear_cross_entropy(
        y,
        params[head],
        targets,
        model_config.logit_softcap,
        **settings,
        denominator=denominator,
        chunk=chunk,
        weights=weights,
    )

    def vjp(dy):
        dx, dweight = loss_vjp(dy)
        grads = model_vjp(dx, asked_vjp(dy))
        return grads | {head: grads[head] + dweight}

    return loss + asked, vjp


def _add_to(record, sums):
    """Add sums, by name, to those of the micro-batches before."""
    if record is not None:
        record.update({name: record.get(name, 0) + value for name, value in sums.items()})


def train_step(params, states, inputs, targets, model_config, train_config, step, documents=None, weights=None, frozen=None):
    """One step of training on one batch.

    params: name -> array; states: from ``init_states``; inputs, targets: (B, T) of whole numbers; step: from 0.
    documents, weights, frozen: as for ``loss_and_grads``.
    In float16 states["loss_scale"] keeps the dynamic loss scale, which a skipped step halves.
    With ``ema`` set, states["ema"] is the moving average of the weights, beginning at those of the first step.
    Returns {"loss": nats per token before the step, "lr", "grad_norm": before clipping, "skipped"}, new params, new
    states. A step whose loss or gradient norm is not finite is skipped: the params and states that came in come back.
    Of a mixture of experts the loss is without the routers' terms, "routing" has them and the sums of
    ``routing_record``, and where it has balancing biases they move at the end.
    """
    routed = {}
    scale = loss_scale(states, train_config)["scale"]
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is seen in ``apply_gradients``
        loss, grads = loss_and_grads(
            params, inputs, targets, model_config, train_config, step, documents, scale, weights, frozen, routed
        )
    metrics, params, states = apply_gradients(params, states, loss, grads, train_config, step)
    if routed:
        metrics |= {"loss": loss - routed["loss"], "routing": routed}
        if model_config.router_bias and not frozen and not metrics["skipped"]:
            params = update_biases(params, routed["load"], model_config, train_config.router_bias_rate)
    return metrics, params, states


def apply_gradients(params, states, loss, grads, train_config, step):
    """The second half of a step, whatever the loss was: clip, update, average.

    loss (); grads: name -> array, of the loss itself, any scale divided out again. Returns as ``train_step`` does.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        grads, norm = clip_by_global_norm(grads, train_config.clip)
        skipped = not np.isfinite(loss + norm)
    lr = learning_rate(step, train_config)
    metrics = {"loss": loss, "lr": lr, "grad_norm": norm, "skipped": skipped}
    if train_config.dtype == "float16":
        scale, good_steps = update_scale(*loss_scale(states, train_config).values(), not skipped)
        states = states | {"loss_scale": {"scale": scale, "good_steps": good_steps}}
    if skipped:
        return metrics, params, states
    new_params, new_states = update(params, grads, states, lr, train_config)
    if train_config.ema:
        new_states["ema"] = ema(states.get("ema", params), new_params, train_config.ema, step)
    return metrics, new_params, states | new_states


def loss_scale(states, train_config):
    """{"scale", "good_steps"}: what the loss is multiplied by before the backward pass; 1 unless in float16."""
    if train_config.dtype != "float16":
        return {"scale": 1.0, "good_steps": 0}
    return states.get("loss_scale", {"scale": 2.0**16, "good_steps": 0})
