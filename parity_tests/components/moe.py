"""Declarations of the mixture of experts: the choice, the experts, and the whole layer."""

import numpy as np
import torch

import numpy_ref.model.moe as numpy_moe
import torch_impl.model.moe as torch_moe
from numpy_ref.config import ACTIVATIONS, GATED, GATES, SCORINGS, ModelConfig, parameter_shapes
from numpy_ref.model.router import NONE
from parity_tests.components.activations import GELU, GELU_TANH, SILU
from parity_tests.components.router import ROUTER_SCORES
from parity_tests.harness.declaration import Bug, Case, Component

SMALL = ModelConfig(layers=1, width=8, heads=2, feed_forward=16, experts=4)


def expert_parameters(rng, experts, width, hidden, activation="gelu", biases=True, scale=1.0):
    up, rows = ("gate_up", 2 * hidden) if activation in GATED else ("up", hidden)
    params = {
        f"{up}.weight": rng.standard_normal((experts, rows, width)) * scale / np.sqrt(width),
        f"{up}.bias": rng.standard_normal((experts, rows)) * scale,
        "down.weight": rng.standard_normal((experts, width, hidden)) * scale / np.sqrt(hidden),
        "down.bias": rng.standard_normal((experts, width)) * scale,
    }
    return {name: value for name, value in params.items() if biases or name.endswith("weight")}


def draw_experts(source):
    experts, rows = source.integer(1, 6), source.integer(0, 12)
    k, activation, biases = source.integer(1, experts), source.choice(*ACTIVATIONS), source.flag()
    width, hidden = source.choice(8, 16, source.size(17)), source.choice(8, 16, source.size(17))
    scores = source.rng.random((rows, experts))
    crowd = source.choice("spread", "spread", "all to one", "few experts")
    if crowd == "all to one":
        scores[:, source.rng.integers(experts)] += 2
    if crowd == "few experts":
        scores[:, ::2] -= 2
    indices = numpy_moe.top_experts(scores, k)
    empty = source.choice(0.0, 0.0, 0.3, 1.0)
    indices = np.where(source.rng.random(indices.shape) < empty, NONE, indices)
    source.event("no rows", rows == 0)
    source.event("one row", rows == 1)
    source.event("all to one", crowd == "all to one" and rows > 2)
    source.event("an expert without rows", bool(set(range(experts)) - set(indices.flat)) and rows > 0)
    source.event("every expert", k == experts > 1)
    source.event("several", k > 1 and rows > 1)
    source.event("empty slots", bool((indices == NONE).any()))
    source.event("biases", biases)
    source.event("aligned", width % 8 == 0 and hidden % 8 == 0)
    source.event(activation)
    source.event("gated", activation in GATED)
    arrays = {
        "x": source.array("x", (rows, width), ("one", "small", "sixteen", "ties", "heavy", "zero")),
        "indices": indices,
        "weights": source.array("weights", indices.shape, ("one", "small"), ("contiguous", "transposed")),
        "params": expert_parameters(source.rng, experts, width, hidden, activation, biases, source.choice(0.3, 1.0, 3.0)),
    }
    return source.case(arrays, activation=activation)


def fixed_experts(rows, experts, k, width, hidden):
    def build(rng):
        scores = rng.random((rows, experts))
        arrays = {
            "x": rng.standard_normal((rows, width)),
            "indices": numpy_moe.top_experts(scores, k),
            "weights": rng.random((rows, k)),
            "params": expert_parameters(rng, experts, width, hidden, "swiglu", False),
        }
        return Case(arrays, {"activation": "swiglu"})

    return build


def expert_flops(case):
    slots, weights = case.arrays["indices"].size, case.arrays["params"].values()
    return 2 * slots * sum(weight[0].size for weight in weights if weight.ndim == 3)


EXPERTS = Component(
    name="experts",
    numpy=numpy_moe.experts,
    torch=torch_moe.experts,
    draw=draw_experts,
    differentiable=("x", "weights", "params"),
    kernels=(GELU, GELU_TANH, SILU),
    events=(
        "no rows", "one row", "all to one", "an expert without rows", "every expert", "several", "empty slots", "biases",
        "aligned", *ACTIVATIONS,
    ),
    weight=2,
    shapes={
        "small": fixed_experts(12, 4, 2, 8, 16), "showcase": fixed_experts(4096, 8, 2, 128, 128),
        "many": fixed_experts(4096, 64, 8, 128, 32),
    },
    flops=expert_flops,
    bytes=lambda case, size: size * (2 * case.arrays["x"].size + sum(p.size for p in case.arrays["params"].values())),
    bugs=(
        Bug("weights applied to the input", "numpy", "feed_forward(x[row], own, activation)", "feed_forward(x[row] * weights[row, slot, None] / np.where(weights[row, slot, None] == 0, 1, weights[row, slot, None] ** 2), own, activation)", needs=("aligned",)),
        Bug("weights forgotten in the backward", "numpy", "stored_like(plain(dy)[:, None] * weights[..., None], x)", "stored_like(plain(dy)[:, None] * np.ones_like(weights)[..., None], x)"),
        Bug("a weight's gradient without the output", "numpy", "np.sum(plain(outputs) * plain(dy)[:, None], axis=-1)", "np.sum(0 * plain(outputs) + plain(dy)[:, None], axis=-1)"),
        Bug("mean over the slots", "numpy", "np.sum(plain(outputs) * weights[..., None], axis=1)", "np.mean(plain(outputs) * weights[..., None], axis=1)", needs=("several",)),
        Bug("dx of the last slot alone", "numpy", "np.sum(dinputs, axis=1)", "+dinputs[:, -1]", needs=("several",)),
        Bug("every expert has the weights of the first", "numpy", "value[number] for", "value[0] for", needs=("several",)),
        Bug("empty slots go to the last expert", "torch", "sorted_by_expert(indices,", 'sorted_by_expert(indices.remainder(len(params["down.weight"])),', needs=("empty slots", "several")),
        Bug("weights in the order of experts", "torch", "collect(y, weights, slots)", "collect(y, weights.flatten()[slots.order].view_as(weights), slots)", needs=("several",)),
        Bug("all rows to the first expert", "torch", "slots = sorted_by_expert(indices,", "slots = sorted_by_expert(indices.clamp(max=0),", needs=("several",)),
        Bug("up's bias left out", "torch", 'params.get(f"{first}.bias"), slots)', "None, slots)", "sorted_feed_forward", needs=("biases",)),
        Bug("weights without gradient", "torch", "collect(y, weights, slots)", "collect(y, weights.detach(), slots)"),
    ),
)  # fmt: skip


def expert_fields(source, layers):
    """Everything about experts that a config can say."""
    experts, groups = source.choice(2, 4, 6), source.choice(1, 1, 2)
    k = source.integer(1, experts // groups)
    dense, every = source.choice((0, 1), (0, 1), (0, 2), (1, 1)) if layers > 1 else (0, 1)
    return {
        "experts": experts,
        "experts_per_token": k,
        "expert_width": source.choice(0, 5),
        "shared_experts": source.choice(0, 0, 2),
        "dense_layers": dense,
        "moe_every": every,
        "scoring": source.choice(*SCORINGS),
        "gate": source.choice(*GATES) if k > 1 else "raw",
        "router_scale": source.choice(1.0, 2.5),
        "router_bias": source.flag(),
        "noisy_router": source.flag(),
        "expert_groups": groups,
        "groups_per_token": source.integer(1, groups),
    }


def draw_config(source):
    config = ModelConfig(
        layers=1,
        width=source.choice(4, 8, 11),
        heads=1,
        positions="none",
        feed_forward=source.choice(4, 8, 13),
        activation=source.choice(*ACTIVATIONS),
        feed_forward_bias=source.flag(),
        **expert_fields(source, 1),
    )
    groups, k = config.expert_groups, config.experts_per_token
    for event, happens in {
        config.scoring: True, config.gate: True, "bias": config.router_bias, "groups": groups > 1,
        "shared": config.shared_experts > 0, "noisy": config.noisy_router, "one expert": k == 1, "several": k > 1,
        "limited": config.groups_per_token < groups,
    }.items():  # fmt: skip
        source.event(event, happens)
    return config


def layer_parameters(rng, config):
    """Random everywhere, the bias as well: large enough to change what is chosen."""
    prefix = f"blocks.{config.moe_layers[0]}.feed_forward."
    shapes = {name.removeprefix(prefix): shape for name, shape in parameter_shapes(config).items() if name.startswith(prefix)}
    return {name: rng.standard_normal(shape) / np.sqrt(shape[-1] if len(shape) > 1 else 4) for name, shape in shapes.items()}


def draw_moe(source):
    config = draw_config(source)
    batch, length = source.integer(1, 3), source.integer(1, 9)
    noise = source.rng.standard_normal((batch, length, config.experts)) if config.noisy_router and source.flag() else None
    capacity = source.choice(None, None, 1, 2, length)
    training = capacity is not None or noise is not None
    routing = {"capacity": capacity, "noise": noise}
    padding = source.choice(None, None, 0.5)
    source.event("dropping", capacity is not None and capacity * config.experts < length * config.experts_per_token)
    source.event("noise", noise is not None)
    source.event("padding", padding is not None)
    source.event("several rows", batch > 1)
    arrays = {
        "x": source.array("x", (batch, length, config.width), ("one", "sixteen")),
        "params": layer_parameters(source.rng, config),
        "noise": noise,
        "valid": None if padding is None else source.rng.random((batch, length)) >= padding,
    }
    del routing["noise"]
    return source.case(arrays, config=config, capacity=capacity, training=training)


def flat(function, arguments):
    """The output and the logits in one array, so that gradients flow into both; the indices are what they come from."""
    arguments = dict(arguments)
    noise, capacity = arguments.pop("noise", None), arguments.pop("capacity", None)
    routing = {"noise": noise, "capacity": capacity} if arguments.pop("training", False) else None
    result = function(**arguments, routing=routing)
    if torch.is_tensor(result[0]):
        return torch.cat((result[0].flatten(), result[1]["logits"].flatten()))
    (y, route), vjp = result
    logits = route["logits"]

    def both(d):
        return vjp(d[: y.size].reshape(y.shape), d[y.size :].reshape(logits.shape))

    return np.concatenate((y.reshape(-1), logits.reshape(-1))), both


MOE = Component(
    name="moe",
    numpy=numpy_moe.moe,
    torch=torch_moe.moe,
    draw=draw_moe,
    differentiable=("x", "params"),
    call=flat,
    kernels=(GELU, GELU_TANH, SILU, ROUTER_SCORES),
    dtypes=("float64", "float32"),
    events=(
        *SCORINGS, *GATES, "bias", "groups", "shared", "noise", "one expert", "several", "dropping", "padding",
        "several rows",
    ),
    weight=3,
    shapes={"small": lambda rng: Case({"x": rng.standard_normal((2, 4, 8)), "params": layer_parameters(rng, SMALL)}, {"config": SMALL})},
    compiles=False,
    flops=lambda case: 2 * case.arrays["x"].size * case.static["config"].experts,
    bytes=lambda case, size: 2 * size * case.arrays["x"].size,
    bugs=(
        Bug("bias in the weights", "numpy", "weights, weights_vjp = gate_weights(logits,", 'weights, weights_vjp = gate_weights(logits + params.get("router.bias", 0),', needs=("bias", "several")),
        Bug("bias without effect", "numpy", 'choose(plain(logits), params.get("router.bias"), config)', "choose(plain(logits), None, config)", needs=("bias",)),
        Bug("router gets no gradient from the output", "numpy", "dl = weights_vjp(dweights.reshape(weights.shape))", "dl = 0 * weights_vjp(dweights.reshape(weights.shape))", needs=("several",)),
        Bug("losses' gradient forgotten", "numpy", "dl if dlogits is None else dl + dlogits", "dl"),
        Bug("the noise learns nothing", "numpy", 'dx_noise, grads["noise.weight"] = spread_vjp(dspread)', "dx_noise = spread_vjp(dspread)[0]", needs=("noise",)),
        Bug("capacity of the batch", "numpy", "drop_overflow(indices, weights, routing[\"capacity\"])", "drop_overflow(indices.reshape(1, -1, indices.shape[-1]), weights.reshape(1, -1, indices.shape[-1]), routing[\"capacity\"]).reshape(indices.shape)", needs=("dropping", "several rows")),
        Bug("shared experts weigh as the first", "numpy", "y = y + shared", "y = y + shared * weights[..., :1]", needs=("shared",)),
        Bug("padding has experts", "torch", "if valid is not None:", "if False:", needs=("padding",)),
        Bug("x reaches the router without gradient", "torch", "logits = router_logits(x, params", "logits = router_logits(x.detach(), params"),
        Bug("groups ignored", "torch", "if config.expert_groups > 1:", "if False:", "choose", needs=("limited",)),
        Bug("bias used as a weight", "torch", "weights = gate_weights(logits,", 'weights = gate_weights(logits + params.get("router.bias", 0),', needs=("bias", "several")),
        Bug("the best of the batch", "torch", "return top_experts(scores, config.experts_per_token)", "return top_experts(scores.mean(0, keepdim=True).expand_as(scores), config.experts_per_token)", "choose", needs=("several rows",)),
    ),
)  # fmt: skip


def draw_choose(source):
    config = draw_config(source)
    logits = source.array("logits", (*source.leading(), config.experts), ("one", "sixteen", "zero", "constant", "ties"))
    bias = source.rng.standard_normal(config.experts) - source.choice(0.0, 3.0) if config.router_bias else None
    wrong = source.flag()
    if wrong:
        logits = np.where(source.rng.random(logits.shape) < 0.2, np.nan, logits)
        source.layouts.clear()
    source.event("not finite", wrong)
    source.event("very negative bias", bias is not None and bool((bias < -1).any()))
    return source.case({"logits": logits, "bias": bias}, config=config)


CHOOSE = Component(
    name="choose",
    numpy=numpy_moe.choose,
    torch=torch_moe.choose,
    draw=draw_choose,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=(*SCORINGS, "bias", "groups", "not finite", "very negative bias", "zero"),
    bugs=(
        Bug("bias subtracted", "numpy", "scores + plain(bias).real", "scores - plain(bias).real", needs=("bias",)),
        Bug("bias on the logits", "numpy", "scores = scores + plain(bias).real", "scores = router_scores(np.nan_to_num(logits) + bias, config.scoring)[0]", needs=("bias", "sixteen")),
        Bug("one group too many", "numpy", "config.groups_per_token)", "config.expert_groups)", needs=("limited",)),
        Bug("NaN goes first", "torch", "nan_to_num(0, 0, 0)", "nan_to_num(9, 0, 0)", needs=("not finite",)),
        Bug("the other score", "torch", "router_scores(logits, config.scoring)", 'router_scores(logits, "sigmoid")', needs=("bias", "softmax")),
    ),
)  # fmt: skip

COMPONENTS = (EXPERTS, MOE, CHOOSE)
