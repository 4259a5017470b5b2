"""Declarations of what keeps experts busy alike: losses, the bias, capacities, and the sums that the log is made of."""

import numpy as np

import numpy_ref.model.balance as numpy_balance
import torch_impl.model.balance as torch_balance
from numpy_ref.model.router import NONE, top_experts
from parity_tests.components.router import WIDE
from parity_tests.harness.declaration import Bug, Case, Component


def draw_indices(source, lead, experts):
    """Experts of (..., T) tokens, K each: balanced or not, some padding, some empty slots."""
    k, tokens = source.integer(1, experts), source.integer(1, 9)
    scores = source.rng.standard_normal((*lead, tokens, experts))
    favourite = source.choice(0.0, 0.0, 2.0, 50.0)
    scores[..., source.rng.integers(experts)] += favourite
    indices = top_experts(scores, k)
    padding = source.choice("no padding", "some padding", "all padding")
    share = {"no padding": 0.0, "some padding": 0.4, "all padding": 1.0}[padding]
    indices = np.where(source.rng.random((*lead, tokens, 1)) < share, NONE, indices)
    source.event(padding)
    source.event("groups", bool(lead) and np.prod(lead) > 1)
    source.event("several", k > 1)
    source.event("one favourite", favourite == 50)
    source.event("some of many", 1 < k < experts)
    return indices


def draw_load(source):
    experts = source.integer(1, 7)
    return source.case({"indices": draw_indices(source, source.leading(), experts)}, experts=experts)


EXPERT_LOAD = Component(
    name="expert_load",
    numpy=numpy_balance.expert_load,
    torch=torch_balance.expert_load,
    draw=draw_load,
    exact=True,
    dtypes=("float64",),
    events=("no padding", "some padding", "all padding", "groups", "several", "one favourite"),
    shapes={"small": lambda rng: Case({"indices": rng.integers(-1, 4, (2, 5, 2))}, {"experts": 4})},
    compiles=False,
    flops=lambda case: case.arrays["indices"].size,
    bytes=lambda case, size: 8 * case.arrays["indices"].size,
    bugs=(
        Bug("the first choice alone", "numpy", "indices.reshape(*indices.shape[:-2], -1)", "indices[..., 0]", needs=("several",)),
        Bug("all groups together", "torch", "[..., :experts]", "[..., :experts].flatten(0, -2).sum(0).expand(*flat.shape[:-1], experts)", needs=("groups",)),
        Bug("empty slots go to the last expert", "torch", "flat.remainder(experts + 1)", "flat.remainder(experts)", needs=("some padding",)),
        Bug("experts that have tokens, not how many", "numpy", "np.sum(flat[..., None] == np.arange(experts), axis=-2, dtype=np.int64)", "np.any(flat[..., None] == np.arange(experts), axis=-2).astype(np.int64)"),
    ),
)  # fmt: skip


def draw_loss(source):
    lead, experts = source.leading(), source.integer(1, 7)
    indices = draw_indices(source, lead, experts)
    logits = source.array("scores", (*indices.shape[:-1], experts), ("one", "tiny", "sixteen", "constant", "zero"))
    softmax = source.flag()
    scores = np.exp(logits - logits.max(-1, keepdims=True)) if softmax else 1 / (1 + np.exp(-logits))
    scores = scores / (scores.sum(-1, keepdims=True) if softmax else 1.0)
    source.event("sum to one", softmax)
    source.event("sigmoids", not softmax)
    source.layouts.clear()
    return source.case({"scores": scores, "indices": indices}, denominator=source.choice(None, None, 7, 40))


BALANCE_LOSS = Component(
    name="balance_loss",
    numpy=numpy_balance.balance_loss,
    torch=torch_balance.balance_loss,
    draw=draw_loss,
    differentiable=("scores",),
    dtypes=WIDE,
    events=("no padding", "some padding", "all padding", "groups", "several", "one favourite", "sum to one", "sigmoids"),
    shapes={
        "small": lambda rng: Case({"scores": rng.uniform(0.1, 1, (2, 5, 4)), "indices": rng.integers(-1, 4, (2, 5, 2))})
    },
    flops=lambda case: 4 * case.arrays["scores"].size,
    bytes=lambda case, size: size * case.arrays["scores"].size + 8 * case.arrays["indices"].size,
    bugs=(
        Bug("double softmax", "numpy", "p = scores / total", "p = np.exp(scores) / np.sum(np.exp(scores), axis=-1, keepdims=True)"),
        Bug("P over the chosen alone", "numpy", "factor = np.where(counted,", "factor = np.where(np.any(indices[..., None] == np.arange(experts), axis=-2),", needs=("some of many",)),
        Bug("f sums to k", "numpy", "share = experts * load /", "share = indices.shape[-1] * experts * load /", needs=("several",)),
        Bug("not times the number of experts", "numpy", "share = experts * load", "share = load"),
        Bug("padding has a share in P", "numpy", "np.where(counted, share[..., None, :], 0.0)", "np.where(counted | True, share[..., None, :], 0.0)", needs=("some padding",)),
        Bug("padding counted in the mean", "numpy", "int(np.sum(counted))", "counted.size", needs=("some padding",)),
        Bug("groups mixed", "numpy", "load = expert_load(indices, experts)", "load = expert_load(indices, experts); load = load * 0 + np.sum(load.reshape(-1, experts), axis=0)", needs=("groups",)),
        Bug("sum of shares without gradient", "numpy", "(dp - np.sum(dp * p, axis=-1, keepdims=True)) / total", "dp / total", needs=("one favourite", "no padding")),
        Bug("mean of the groups' means", "torch", "if denominator is None:", "if denominator is not None:\n        denominator = counted.sum().clamp(min=1) + 0 * denominator\n    else:"),
        Bug("sigmoids not normalised", "torch", "scores / torch.where(total == 0, 1, total)", "scores", needs=("sigmoids",)),
        Bug("every group divides by all slots", "torch", "load.sum(-1, keepdim=True)", "load.sum()", needs=("groups",)),
        Bug("a tenth of P without gradient", "torch", "(p * (f.unsqueeze(-2)", "((0.9 * p + 0.1 * p.detach()) * (f.unsqueeze(-2)"),
    ),
)  # fmt: skip


def draw_z(source):
    shape = (*source.leading(), source.integer(1, 7))
    logits = source.array("logits", shape, ("one", "tiny", "sixteen", "offset", "constant", "zero"))
    counted = source.choice("all", "some", "none")
    share = {"all": None, "some": 0.6, "none": 0.0}[counted]
    source.event(f"{counted} counted")
    mask = None if share is None else np.asarray(source.rng.random(shape[:-1]) < share)
    return source.case({"logits": logits, "counted": mask}, denominator=source.choice(None, None, 5, 40))


ROUTER_Z_LOSS = Component(
    name="router_z_loss",
    numpy=numpy_balance.router_z_loss,
    torch=torch_balance.router_z_loss,
    draw=draw_z,
    differentiable=("logits",),
    dtypes=WIDE,
    events=("all counted", "some counted", "none counted", "offset", "zero"),
    cancellation=lambda arguments, dy, unit: {"dlogits": _recomputed(arguments, dy)},
    shapes={"small": lambda rng: Case({"logits": rng.standard_normal((2, 5, 4))})},
    compiles=False,
    flops=lambda case: 4 * case.arrays["logits"].size,
    bytes=lambda case, size: size * case.arrays["logits"].size,
    bugs=(
        Bug("logsumexp of the shifted logits", "numpy", "lse = np.log(total) + peak", "lse = np.log(total)"),
        Bug("slope halved", "numpy", "dloss * 2.0 * lse", "dloss * lse"),
        Bug("not squared", "numpy", "lse * lse, 0.0)", "lse, 0.0)"),
        Bug("padding has a loss", "torch", "squares = squares.where(counted, 0)", "pass", needs=("some counted",)),
        Bug("sum, not mean", "torch", "squares.sum() / denominator", "squares.sum()"),
    ),
)


def _recomputed(arguments, dy):
    """The gradient of torch.logsumexp is exp(l - lse), right to u |lse| of the softmax only."""
    logits, counted = arguments["logits"], arguments["counted"]
    peak = logits.max(-1, keepdims=True)
    total = np.exp(logits - peak).sum(-1, keepdims=True)
    lse, p = np.log(total) + peak, np.exp(logits - peak) / total
    number = logits[..., 0].size if counted is None else counted.sum()
    return np.abs(dy) * 2 * lse * lse * p / (arguments["denominator"] or max(1, number))


def draw_bias(source):
    experts = source.integer(1, 9)
    load = source.rng.integers(0, 1 + source.choice(0, 3, 1000), experts)
    source.event("balanced", bool((load == load[0]).all()))
    source.event("some at the mean", bool((load * experts == load.sum()).any()) and len(set(load.tolist())) > 1)
    return source.case({"bias": source.array("bias", (experts,), ("one", "zero")), "load": load}, rate=source.choice(1e-3, 0.5))


UPDATE_BIAS = Component(
    name="update_bias",
    numpy=numpy_balance.update_bias,
    torch=torch_balance.update_bias,
    draw=draw_bias,
    dtypes=WIDE,
    events=("balanced", "some at the mean"),
    shapes={"small": lambda rng: Case({"bias": rng.standard_normal(4), "load": rng.integers(0, 9, 4)}, {"rate": 1e-3})},
    compiles=False,
    flops=lambda case: 3 * case.arrays["bias"].size,
    bytes=lambda case, size: 2 * size * case.arrays["bias"].size,
    bugs=(
        Bug("the busy become easier to choose", "numpy", "np.sum(load) - len(load) * load", "len(load) * load - np.sum(load)"),
        Bug("by how much, not whether", "numpy", "np.sign(np.sum(load) - len(load) * load)", "(np.mean(load) - load)"),
        Bug("below the mean alone", "numpy", "np.sign(np.sum(load) - len(load) * load)", "(np.sum(load) > len(load) * load)"),
        Bug("the largest for the mean", "torch", "(load.sum() - len(load) * load)", "(load.max() - load)"),
        Bug("rate ignored", "torch", "alpha=rate", "alpha=1e-2"),
    ),
)


def draw_capacity(source):
    k = source.integer(1, 4)
    experts = k + source.integer(0, 4)
    factor = source.choice(0.1, 1.0, 1.25, 2.0, 100.0)
    tokens = source.integer(1, 40)
    source.event("rounded up", factor * k * tokens % experts > 0)
    source.event("no more than tokens", factor == 100)
    return source.case({}, tokens=tokens, experts=experts, k=k, factor=factor)


EXPERT_CAPACITY = Component(
    name="expert_capacity",
    numpy=numpy_balance.expert_capacity,
    torch=torch_balance.expert_capacity,
    draw=draw_capacity,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    call=lambda function, arguments: np.array(function(**arguments)) if function.__module__.startswith("numpy") else _tensor(function(**arguments)),
    events=("rounded up", "no more than tokens"),
    bugs=(
        Bug("rounded down", "numpy", "math.ceil(", "math.floor("),
        Bug("k forgotten", "numpy", "factor * k * tokens", "factor * tokens"),
        Bug("more than there are tokens", "torch", "min(tokens, math", "min(10**9, math"),
        Bug("at least two", "torch", "math.ceil(factor", "max(2, factor"),
    ),
)


def _tensor(number):
    import torch

    return torch.tensor(number)


def draw_drop(source):
    experts = source.integer(1, 5)
    indices = draw_indices(source, source.leading(), experts)
    weights = np.where(indices == NONE, 0.0, source.rng.random(indices.shape))
    if source.flag():
        weights = np.round(weights, 1)
    policy, capacity = source.choice("position", "weight"), source.integer(1, indices.shape[-2])
    source.event(policy)
    source.event("ample", capacity == indices.shape[-2])
    source.event("scarce", capacity <= 2 < indices.shape[-2])
    return source.case({"indices": indices, "weights": weights}, capacity=capacity, policy=policy)


DROP_OVERFLOW = Component(
    name="drop_overflow",
    numpy=numpy_balance.drop_overflow,
    torch=torch_balance.drop_overflow,
    draw=draw_drop,
    exact=True,
    dtypes=("float64",),
    events=("position", "weight", "ample", "scarce", "groups", "some padding", "several", "one favourite"),
    shapes={
        "small": lambda rng: Case({"indices": rng.integers(-1, 4, (2, 5, 2)), "weights": rng.random((2, 5, 2))}, {"capacity": 2})
    },
    compiles=False,
    flops=lambda case: case.arrays["indices"].size,
    bytes=lambda case, size: 8 * case.arrays["indices"].size,
    bugs=(
        Bug("capacity of the batch, not of each group", "numpy", "flat = indices.reshape(*indices.shape[:-2], -1)", "flat = indices.reshape(1, -1)", needs=("scarce", "groups", "position")),
        Bug("one too many", "numpy", "place <= capacity", "place <= capacity + 1", needs=("scarce",)),
        Bug("the lightest first", "numpy", "np.argsort(-weights", "np.argsort(weights", needs=("scarce", "weight")),
        Bug("a token loses all of its slots", "torch", "return torch.empty_like(flat).scatter_(-1, order, kept).view_as(indices)", "kept = torch.empty_like(flat).scatter_(-1, order, kept).view_as(indices); return torch.where((kept != indices).any(-1, keepdim=True), NONE, kept)", needs=("scarce", "some of many")),
        Bug("weights decide always", "torch", 'if policy == "weight":', "if True:", needs=("scarce", "position")),
        Bug("slots of all experts in one queue", "torch", "torch.searchsorted(queues.values, queues.values)", "0", needs=("scarce", "some of many")),
    ),
)  # fmt: skip


def draw_summary(source):
    lead, experts = (source.integer(1, 3),), source.integer(1, 7)
    indices = draw_indices(source, lead, experts)
    kept = np.where(source.rng.random(indices.shape) < 0.3, NONE, indices)
    scores = np.exp(source.array("scores", (*indices.shape[:-1], experts), ("one", "sixteen", "zero")))
    source.layouts.clear()
    return source.case({"scores": scores, "indices": indices, "kept": kept})


ROUTING_SUMMARY = Component(
    name="routing_summary",
    numpy=numpy_balance.routing_summary,
    torch=torch_balance.routing_summary,
    draw=draw_summary,
    dtypes=WIDE,
    compiles=False,
    events=("no padding", "some padding", "all padding", "several", "one favourite"),
    bugs=(
        Bug("load after dropping", "numpy", "expert_load(indices.reshape", "expert_load(kept.reshape"),
        Bug("padding counted as dropped", "numpy", "(indices != NONE) & (kept == NONE)", "kept == NONE", needs=("some padding",)),
        Bug("entropy in bits", "numpy", "np.log(", "np.log2("),
        Bug("padding in the entropy", "torch", "torch.special.entr(p).sum(-1).where(counted, 0)", "torch.special.entr(p).sum(-1)", needs=("some padding",)),
        Bug("slots for tokens", "torch", '"tokens": counted.sum()', '"tokens": (indices != NONE).sum()', needs=("several", "no padding")),
    ),
)  # fmt: skip

COMPONENTS = (
    EXPERT_LOAD, BALANCE_LOSS, ROUTER_Z_LOSS, UPDATE_BIAS, EXPERT_CAPACITY, DROP_OVERFLOW, ROUTING_SUMMARY,
)  # fmt: skip
