"""What training adds to a mixture of experts: capacity and noise, balancing losses, the bias, sums for the log."""

import torch

from torch_impl.model.balance import balance_loss, expert_capacity, router_z_loss, routing_summary, update_bias
from torch_impl.model.router import NONE, router_scores
from torch_impl.rng import STREAM_ROUTER, normal

TORCH_EXTRA_ARGUMENTS = {"device", "share"}


def routing_settings(config, train_config, batch, length, step, first=0, device=None):
    """The routing argument of ``transformer`` for some rows of a step: [{"capacity", "noise"}, ...], one a layer.

    None for a dense model. Capacities are a row's. Noise (batch, length, E) is drawn from a stream for each layer and
    step, from where the rows' own begins: ``first`` is the number of the first row.
    """
    if not config.experts:
        return None
    capacity = None
    if train_config.capacity_factor is not None:
        capacity = expert_capacity(length, config.experts, config.experts_per_token, train_config.capacity_factor)
    settings = [{"capacity": capacity, "noise": None} for _ in range(config.layers)]
    if config.noisy_router:
        offset, shape = first * length * config.experts, (batch, length, config.experts)
        dtype = torch.float32 if train_config.dtype != "float64" else torch.float64
        for layer in config.moe_layers:
            stream = STREAM_ROUTER + config.layers * step + layer
            settings[layer]["noise"] = normal(train_config.seed, stream, shape, dtype, offset, device)
    return settings


def routing_loss(routes, config, train_config, tokens):
    """The balancing losses of some rows, summed over layers: for the rows as a whole, for each row, and the z-loss, with
    the weights of the training config.

    Shapes: routes as from ``transformer`` -> (). tokens: number (or tensor) of routed tokens of the whole step, over all
    micro-batches and processes, whose losses then add up.
    """
    c, total = train_config, torch.zeros((), device=routes[0]["logits"].device)
    for route in routes:
        logits, indices = route["logits"], route["indices"]
        scores = router_scores(logits, config.scoring)
        if c.balance_loss:
            total = total + c.balance_loss * balance_loss(scores.flatten(0, 1), indices.flatten(0, 1), tokens)
        if c.sequence_balance_loss:
            total = total + c.sequence_balance_loss * balance_loss(scores, indices, tokens)
        if c.router_z_loss:
            total = total + c.router_z_loss * router_z_loss(logits, (indices != NONE).any(-1), tokens)
    return total


@torch.no_grad()
def routing_record(routes, config):
    """The sums of ``routing_summary``, stacked over the layers with experts: name -> (L, ...)."""
    layers = [
        routing_summary(router_scores(route["logits"], config.scoring), route["indices"], route["kept"])
        for route in routes
    ]
    return {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]}


@torch.no_grad()
def update_biases(params, load, config, rate, share=None):
    """Moves the balancing bias of each layer with experts, in place, by the load (L, E) of a whole step.

    ``share(name, value)``: this process's part of a value, where parameters are in shares. Returns params.
    """
    for layer, own in zip(config.moe_layers, load, strict=True):
        name = f"blocks.{layer}.feed_forward.router.bias"
        change = update_bias(torch.zeros(len(own), dtype=params[name].dtype, device=own.device), own, rate)
        params[name].add_(share(name, change) if share else change)
    return params
