"""Declarations of what training does with experts: settings of a step, balancing losses, sums for the log, the biases."""

import numpy as np
import torch

import numpy_ref.training.routing as numpy_routing
import torch_impl.training.routing as torch_routing
from numpy_ref.config import SCORINGS, ModelConfig, TrainConfig
from numpy_ref.model.moe import choose
from numpy_ref.model.router import NONE
from numpy_ref.rng import STREAM_ROUTER
from parity_tests.components.balance import _recomputed
from parity_tests.components.moe import expert_fields
from parity_tests.components.rng import phase_error
from parity_tests.components.router import ROUTER_SCORES, WIDE
from parity_tests.harness.declaration import Bug, Component
from parity_tests.harness.trees import tree_map


def draw_model(source, layers=3):
    layers = source.integer(1, layers)
    config = ModelConfig(layers=layers, width=4, heads=1, positions="none", **expert_fields(source, layers))
    source.event("several layers", len(config.moe_layers) > 1)
    source.event("dense layers", len(config.moe_layers) < layers)
    source.event(config.scoring)
    return config


def draw_settings(source):
    config = draw_model(source) if source.choice(True, True, False) else ModelConfig()
    train = TrainConfig(capacity_factor=source.choice(None, 0.5, 1.25), seed=source.integer(0, 2**40), dtype=source.dtype)
    static = {"step": source.integer(0, 1000), "first": source.choice(0, 1, 5)}
    source.event("dense", not config.experts)
    source.event("noise", config.noisy_router)
    source.event("later rows", config.noisy_router and static["first"] > 0)
    source.event("capacity", config.experts > 0 and train.capacity_factor is not None)
    return source.case(
        {}, config=config, train_config=train, batch=source.integer(1, 3), length=source.integer(1, 9), **static
    )


def listed(function, arguments):
    """Numbers in the place of what is no array."""
    numpy = function.__module__.startswith("numpy")
    number = np.array if numpy else torch.tensor
    result = tree_map(lambda leaf: leaf if hasattr(leaf, "shape") else number(-1 if leaf is None else leaf), function(**arguments))
    if numpy and arguments["train_config"].dtype == "float32":  # the reference's noise takes the format of the logits
        return tree_map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf, result)
    return result


def noise_error(arguments, dy, unit):
    config, found = arguments["config"], {}
    if config.noisy_router:
        rows = arguments["batch"], arguments["length"], config.experts
        offset = arguments["first"] * rows[1] * rows[2]
        for layer in config.moe_layers:
            stream = STREAM_ROUTER + arguments["step"] * config.layers + layer
            found[f"value[{layer}][noise]"] = phase_error(arguments["train_config"].seed, stream, rows, offset)
    return found


ROUTING_SETTINGS = Component(
    name="routing_settings",
    numpy=numpy_routing.routing_settings,
    torch=torch_routing.routing_settings,
    draw=draw_settings,
    call=listed,
    cancellation=noise_error,
    elementwise=True,
    dtypes=("float64",),
    compiles=False,
    events=("dense", "noise", "later rows", "capacity", "several layers", "dense layers"),
    bugs=(
        Bug("every layer has the same noise", "numpy", "step * config.layers + layer", "step * config.layers", needs=("noise", "several layers")),
        Bug("every micro-batch has the same noise", "numpy", "offset=first * length * config.experts", "offset=0", needs=("later rows",)),
        Bug("noise repeats every step", "numpy", "STREAM_ROUTER + step * config.layers", "STREAM_ROUTER", needs=("noise",)),
        Bug("capacity of the batch", "torch", "expert_capacity(length,", "expert_capacity(batch * length,", needs=("capacity",)),
        Bug("noise always", "torch", "if config.noisy_router:", "if True:"),
        Bug("a slot a token too few", "torch", "config.experts_per_token, train_config", "config.experts_per_token - 1, train_config", needs=("capacity",)),
    ),
)  # fmt: skip


def draw_routes(source, k=None):
    config = draw_model(source, 2)
    shape = source.integer(1, 3), source.integer(1, 6), config.experts
    routes, padding = [], source.choice(False, True)
    for _ in config.moe_layers:
        logits = source.array("routes", shape, ("one", "tiny", "sixteen", "constant"), ("contiguous",))
        indices = choose(logits, None, config)
        if padding:
            indices = np.where(source.rng.random((*shape[:2], 1)) < 0.3, NONE, indices)
        kept = np.where(source.rng.random(indices.shape) < 0.3, NONE, indices)
        routes.append({"logits": logits, "indices": indices, "kept": kept})
    source.event("padding", padding)
    source.event("several rows", shape[0] > 1 and shape[1] > 1)
    return config, routes


def draw_loss(source):
    config, routes = draw_routes(source)
    train = TrainConfig(
        balance_loss=source.choice(0.0, 1.0),
        sequence_balance_loss=source.choice(0.0, 0.5),
        router_z_loss=source.choice(0.0, 0.1),
    )
    for name in ("balance_loss", "sequence_balance_loss", "router_z_loss"):
        source.event(name, getattr(train, name) > 0)
    logits = [route.pop("logits") for route in routes]
    source.layouts.clear()
    return source.case(
        {"logits": logits, "routes": routes}, config=config, train_config=train, tokens=source.choice(7, 30)
    )


def with_logits(function, arguments):
    """The logits as an argument of their own, which is what there is to differentiate."""
    arguments = dict(arguments)
    logits = arguments.pop("logits")
    routes = [{"logits": own, **route} for own, route in zip(logits, arguments.pop("routes"), strict=True)]
    result = function(routes, **arguments)
    if torch.is_tensor(result):  # without any weight nothing depends on the logits
        return result + sum(0 * own.sum() for own in logits)
    return np.asarray(result[0]), result[1]


def logsumexp_error(arguments, dy, unit):
    weight, tokens = arguments["train_config"].router_z_loss, arguments["tokens"]
    return {
        f"dlogits[{place}]": weight * _recomputed({"logits": own, "counted": None, "denominator": tokens}, dy)
        for place, own in enumerate(arguments["logits"])
    }


ROUTING_LOSS = Component(
    name="routing_loss",
    numpy=numpy_routing.routing_loss,
    torch=torch_routing.routing_loss,
    draw=draw_loss,
    differentiable=("logits",),
    call=with_logits,
    kernels=(ROUTER_SCORES,),
    cancellation=logsumexp_error,
    dtypes=WIDE,
    compiles=False,
    events=(*SCORINGS, "balance_loss", "sequence_balance_loss", "router_z_loss", "padding", "several layers", "several rows"),
    bugs=(
        Bug("the mean over the layers", "numpy", "sum(loss for loss, _ in found)", "sum(loss for loss, _ in found) / len(found)", needs=("several layers", "balance_loss")),
        Bug("gradient not weighted", "numpy", "whole_vjp(c.balance_loss * dloss)", "whole_vjp(dloss)", "_layer_loss"),
        Bug("every row a group", "numpy", "scores.reshape(-1, config.experts), indices.reshape(-1, indices.shape[-1]), tokens", "scores, indices, tokens", "_layer_loss", needs=("several rows", "balance_loss")),
        Bug("all rows one group", "torch", "balance_loss(scores, indices, tokens)", "balance_loss(scores.flatten(0, 1), indices.flatten(0, 1), tokens)", needs=("several rows", "sequence_balance_loss")),
        Bug("padding has a z-loss", "torch", "router_z_loss(logits, (indices != NONE).any(-1), tokens)", "router_z_loss(logits, None, tokens)", needs=("padding", "router_z_loss")),
        Bug("tokens of these rows", "torch", "indices.flatten(0, 1), tokens)", "indices.flatten(0, 1))", needs=("balance_loss",)),
        Bug("layers pooled into one", "numpy", "for route in routes]", "for route in [{name: np.concatenate([one[name] for one in routes]) for name in routes[0]}] * len(routes)]", needs=("several layers", "balance_loss")),
    ),
)  # fmt: skip


def draw_record(source):
    config, routes = draw_routes(source)
    return source.case({"routes": routes}, config=config)


ROUTING_RECORD = Component(
    name="routing_record",
    numpy=numpy_routing.routing_record,
    torch=torch_routing.routing_record,
    draw=draw_record,
    dtypes=WIDE,
    compiles=False,
    events=(*SCORINGS, "padding", "several layers"),
    bugs=(
        Bug("the first layer for all", "numpy", "layers.append(routing_summary(scores, route[", "layers.append(routing_summary(scores, routes[0]["  , needs=("several layers",)),
        Bug("entropy of the logits' softmax", "numpy", "router_scores(route[\"logits\"], config.scoring)", "router_scores(route[\"logits\"])", needs=("sigmoid",)),
        Bug("nothing was dropped", "torch", 'route["kept"])', 'route["indices"])'),
        Bug("load after dropping", "torch", 'route["indices"], route["kept"]', 'route["kept"], route["kept"]'),
    ),
)  # fmt: skip


def draw_biases(source):
    layers = source.integer(1, 3)
    config = ModelConfig(layers=layers, width=4, heads=1, **expert_fields(source, layers) | {"router_bias": True})
    names = [f"blocks.{layer}.feed_forward.router.bias" for layer in range(layers) if layer in config.moe_layers]
    params = {name: source.array("params", (config.experts,), ("one", "zero")) for name in names}
    params["output.weight"] = source.weight("params", (3, 4))
    source.event("several layers", len(names) > 1)
    source.event("dense layers", len(names) < layers)
    load = source.rng.integers(0, 9, (len(names), config.experts))
    return source.case({"params": params, "load": load}, config=config, rate=source.choice(1e-3, 0.5))


def on_copies(function, arguments):
    """The Torch side works in place."""
    return function(**tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, arguments))


UPDATE_BIASES = Component(
    name="update_biases",
    numpy=numpy_routing.update_biases,
    torch=torch_routing.update_biases,
    draw=draw_biases,
    call=on_copies,
    dtypes=WIDE,
    compiles=False,
    events=("several layers", "dense layers"),
    bugs=(
        Bug("load of the first layer for all", "numpy", "update_bias(params[name], own, rate)", "update_bias(params[name], load[0], rate)", needs=("several layers",)),
        Bug("layers counted without the dense ones", "numpy", "for layer in config.moe_layers]", "for layer in sorted(config.moe_layers, reverse=True)]", needs=("several layers",)),
        Bug("the loads, not their signs", "torch", "update_bias(torch.zeros(len(own), dtype=params[name].dtype, device=own.device), own, rate)", "rate * (own.double().mean() - own).to(params[name].dtype)"),
        Bug("the bias is what it moves by", "torch", "params[name].add_(share(name, change) if share else change)", "params[name].copy_(change)"),
    ),
)  # fmt: skip

COMPONENTS = (ROUTING_SETTINGS, ROUTING_LOSS, ROUTING_RECORD, UPDATE_BIASES)
