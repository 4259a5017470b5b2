"""Experts in training: what their routers are told, the losses that balance them, and what the log says of them."""

import numpy as np

from numpy_ref.model.balance import balance_loss, expert_capacity, router_z_loss, routing_summary, update_bias
from numpy_ref.model.router import NONE, router_scores
from numpy_ref.rng import STREAM_ROUTER, normal


def routing_settings(config, train_config, batch, length, step, first=0):
    """What ``transformer`` takes as routing in one training step: a dict for each layer; None for a dense model.

    "capacity": slots an expert has for each row, None without ``capacity_factor``; rows share nothing, so that it does not
    matter what else is in the batch. "noise": normal numbers (batch, length, E), None unless the router is noisy; every
    layer of every step has a stream of its own, and a micro-batch that begins at row ``first`` the numbers that its rows
    have in the whole.
    """
    if not config.experts:
        return None
    capacity, factor = None, train_config.capacity_factor
    if factor is not None:
        capacity = expert_capacity(length, config.experts, config.experts_per_token, factor)
    layers, shape = [], (batch, length, config.experts)
    for layer in range(config.layers):
        noise = None
        if config.noisy_router and layer in config.moe_layers:
            stream = STREAM_ROUTER + step * config.layers + layer
            noise = normal(train_config.seed, stream, shape, offset=first * length * config.experts)
        layers.append({"capacity": capacity, "noise": noise})
    return layers


def routing_loss(routes, config, train_config, tokens):
    """What the routers add to the loss of these rows, summed over the layers.

        L = a balance_loss(all rows as one group) + s balance_loss(each row a group) + z router_z_loss

    with the weights a, s, z of the training config. routes: of ``transformer``; tokens: how many the whole step routes,
    so that the losses of micro-batches add up to a mean over the step (padding is not routed).

    Returns () and, by its vjp, dL () -> dlogits, a list of (B, T, E).
    """
    found = [_layer_loss(route, config, train_config, tokens) for route in routes]

    def vjp(dloss):
        return [layer_vjp(dloss) for _, layer_vjp in found]

    return sum(loss for loss, _ in found), vjp


def _layer_loss(route, config, c, tokens):
    """The share of one layer ();  vjp: dL -> dlogits (B, T, E)."""
    logits, indices = route["logits"], route["indices"]
    scores, scores_vjp = router_scores(logits, config.scoring)
    whole, whole_vjp = balance_loss(scores.reshape(-1, config.experts), indices.reshape(-1, indices.shape[-1]), tokens)
    rows, rows_vjp = balance_loss(scores, indices, tokens)
    size, size_vjp = router_z_loss(logits, np.any(indices != NONE, axis=-1), tokens)

    def vjp(dloss):
        dscores = whole_vjp(c.balance_loss * dloss).reshape(scores.shape) + rows_vjp(c.sequence_balance_loss * dloss)
        return scores_vjp(dscores) + size_vjp(c.router_z_loss * dloss)

    return c.balance_loss * whole + c.sequence_balance_loss * rows + c.router_z_loss * size, vjp


def routing_record(routes, config):
    """Sums over these rows of what ``routing_summary`` counts, a row for each layer that has experts: name -> (L, ...)."""
    layers = []
    for route in routes:
        scores, _ = router_scores(route["logits"], config.scoring)
        layers.append(routing_summary(scores, route["indices"], route["kept"]))
    return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}


def update_biases(params, load, config, rate):
    """``update_bias`` in every layer with experts, by its load (L, E) in the whole step. Returns new params.

    Once a step of the optimiser: an update for each micro-batch would be too many, and one from each process's own load
    would let them drift apart.
    """
    names = [f"blocks.{layer}.feed_forward.router.bias" for layer in config.moe_layers]
    return params | {name: update_bias(params[name], own, rate) for name, own in zip(names, load, strict=True)}
