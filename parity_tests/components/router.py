"""Declarations of the router: logits, scores, the choice of experts, and the weights of their outputs."""

import numpy as np

import numpy_ref.model.router as numpy_router
import torch_impl.model.router as torch_router
from numpy_ref.config import GATES, SCORINGS
from numpy_ref.model.router import NONE
from parity_tests.harness.declaration import Bug, Case, Component

WIDE = ("float64", "float32")  # routers compute in float32 at least


def draw_logits(source):
    lead, width, experts = source.leading(), source.size(33), source.integer(1, 9)
    magnitudes = ("one", "tiny", "small", "sixteen", "heavy", "ties", "zero")
    return source.case(
        {"x": source.array("x", (*lead, width), magnitudes), "weight": source.weight("weight", (experts, width))}
    )


ROUTER_LOGITS = Component(
    name="router_logits",
    numpy=numpy_router.router_logits,
    torch=torch_router.router_logits,
    draw=draw_logits,
    differentiable=("x", "weight"),
    inside="float32",
    outputs={"value": {"bfloat16": "float32", "float16": "float32"}},
    events=("heavy", "zero", "strided"),
    shapes={
        "small": lambda rng: Case({"x": rng.standard_normal((2, 5, 8)), "weight": rng.standard_normal((4, 8))}),
        "showcase": lambda rng: Case({"x": rng.standard_normal((4096, 128)), "weight": rng.standard_normal((8, 128))}),
    },
    compiles=False,
    flops=lambda case: 2 * case.arrays["x"].size * len(case.arrays["weight"]),
    bytes=lambda case, size: size * (case.arrays["x"].size + case.arrays["weight"].size),
    bugs=(
        Bug("product in 16 bits", "torch", "F.linear(x.to(wide), weight.to(wide))", "F.linear(x, weight).to(wide)", dtype="bfloat16"),
        Bug("logits rounded to 16 bits", "torch", "F.linear(x.to(wide), weight.to(wide))", "F.linear(x.to(wide), weight.to(wide)).to(x.dtype).to(wide)", dtype="bfloat16"),
        Bug("inputs get no gradient", "torch", "F.linear(x.to(wide)", "F.linear(x.detach().to(wide) + 0 * x.to(wide)"),
        Bug("weight's gradient of one row", "numpy", "dlogits.T @ rows", "dlogits[:1].T @ rows[:1]"),
        Bug("scaled like attention", "numpy", "(rows @ matrix.T)", "(rows @ matrix.T / np.sqrt(1 + rows.shape[-1]))"),
    ),
)


def draw_noisy(source):
    shape = (*source.leading(), source.integer(1, 9))
    arrays = {
        "logits": source.array("logits", shape, ("one", "sixteen", "zero")),
        "spread": source.array("spread", shape, ("one", "small", "sixteen", "above exp", "zero")),
        "noise": source.array("noise", shape, ("one",)),
    }
    return source.case(arrays)


NOISY_LOGITS = Component(
    name="noisy_logits",
    numpy=numpy_router.noisy_logits,
    torch=torch_router.noisy_logits,
    draw=draw_noisy,
    differentiable=("logits", "spread"),
    dtypes=WIDE,
    events=("above exp", "zero"),
    shapes={"small": lambda rng: Case({name: rng.standard_normal((5, 4)) for name in ("logits", "spread", "noise")})},
    compiles=False,
    flops=lambda case: 5 * case.arrays["logits"].size,
    bytes=lambda case, size: 4 * size * case.arrays["logits"].size,
    bugs=(
        Bug("spread used as it is", "numpy", "logits + noise * softplus", "logits + noise * spread"),
        Bug("exp for softplus", "numpy", "+ np.log1p(np.exp(-size))", "+ np.exp(-size)"),
        Bug("spread learns nothing", "numpy", "dh * noise * _logistic(spread)", "0 * dh"),
        Bug("noise left out of the slope", "numpy", "dh * noise * _logistic(spread)", "dh * _logistic(spread)"),
        Bug("positive noise", "torch", "noise * torch", "noise.abs() * torch"),
    ),
)


def draw_scores(source):
    shape = (*source.leading(), source.integer(1, 9))
    scoring = source.choice(*SCORINGS)
    source.event(scoring)
    logits = source.array("logits", shape, ("one", "tiny", "sixteen", "offset", "ties", "constant", "zero", "above exp"))
    return source.case({"logits": logits}, scoring=scoring)


def sigmoid_slope(arguments, dy, unit):
    """PyTorch's backward computes s (1 - s) from s, and 1 - s cancels where s is close to 1."""
    if arguments["scoring"] == "softmax":
        return {}
    return {"dlogits": np.abs(dy) / (1 + np.exp(-np.minimum(arguments["logits"], 700)))}


ROUTER_SCORES = Component(
    name="router_scores",
    numpy=numpy_router.router_scores,
    torch=torch_router.router_scores,
    draw=draw_scores,
    differentiable=("logits",),
    dtypes=WIDE,
    cancellation=sigmoid_slope,
    events=(*SCORINGS, "above exp", "ties"),
    shapes={"small": lambda rng: Case({"logits": rng.standard_normal((5, 4))}, {"scoring": "sigmoid"})},
    compiles=False,
    flops=lambda case: 4 * case.arrays["logits"].size,
    bytes=lambda case, size: 2 * size * case.arrays["logits"].size,
    bugs=(
        Bug("always softmax", "numpy", 'scoring == "softmax"', "True", needs=("sigmoid",)),
        Bug("always sigmoid", "torch", 'scoring == "softmax"', "False", needs=("softmax",)),
        Bug("sigmoid's slope s", "numpy", "ds * s * _logistic(-logits)", "ds * s", needs=("sigmoid",)),
        Bug("exp overflows", "numpy", "np.exp(np.where(positive, -x, x))", "np.exp(x)", function="_logistic", needs=("sigmoid", "above exp")),
        Bug("hard sigmoid", "torch", "torch.sigmoid(logits)", "(0.5 + logits / 6).clamp(0, 1)", needs=("sigmoid",)),
    ),
)  # fmt: skip


def draw_top(source):
    experts = source.integer(1, 9)
    scores = source.array("scores", (*source.leading(), experts), ("one", "ties", "constant", "zero", "tiny", "offset"))
    k = source.integer(1, experts)
    hidden = source.flag()
    if hidden:
        scores = np.where(source.rng.random(scores.shape) < 0.5, -np.inf, scores)
        source.layouts.clear()
    source.event("hidden experts", hidden and bool(np.isinf(scores).any()))
    source.event("all experts", k == experts > 1)
    source.event("one expert", k == 1 < experts)
    return source.case({"scores": scores}, k=k)


TOP_EXPERTS = Component(
    name="top_experts",
    numpy=numpy_router.top_experts,
    torch=torch_router.top_experts,
    draw=draw_top,
    exact=True,
    dtypes=WIDE,
    events=("ties", "constant", "hidden experts", "all experts", "one expert"),
    shapes={"small": lambda rng: Case({"scores": rng.standard_normal((5, 4))}, {"k": 2})},
    compiles=False,
    flops=lambda case: case.static["k"] * case.arrays["scores"].size,
    bytes=lambda case, size: size * case.arrays["scores"].size,
    bugs=(
        Bug("of equal scores the last", "numpy", "np.argsort(-scores, axis=-1, kind=\"stable\")[..., :k]", "(scores.shape[-1] - 1 - np.argsort(-scores[..., ::-1], axis=-1, kind=\"stable\"))[..., :k]"),
        Bug("the smallest", "numpy", "np.argsort(-scores,", "np.argsort(scores,"),
        Bug("in the order of experts", "numpy", "[..., :k]", "[..., :k] if k == 1 else np.sort(np.argsort(-scores, axis=-1, kind=\"stable\")[..., :k], axis=-1)"),
        Bug("an expert twice", "torch", 'left.scatter(-1, best, -float("inf"))', "left"),
        Bug("hidden experts twice", "torch", "scores.detach().clamp(min=torch.finfo(scores.dtype).min)", "scores.detach()", needs=("hidden experts", "all experts")),
        Bug("topk, which promises nothing", "torch", "return torch.cat(chosen, -1)", "return scores.flip(-1).topk(k, -1).indices.mul(-1).add(scores.shape[-1] - 1)", needs=("ties",)),
    ),
)  # fmt: skip


def draw_groups(source):
    groups, size = source.integer(1, 4), source.integer(1, 4)
    kept = source.integer(1, groups)
    scores = source.array("scores", (*source.leading(), groups * size), ("one", "ties", "constant", "zero", "small"))
    scores = scores - source.choice(0.0, 3.0)  # biased scores may all be negative
    source.layouts.clear()
    source.event("negative", bool((scores < 0).all()))
    source.event("groups of one", size == 1 < groups)
    source.event("some kept", kept < groups and size > 2)
    source.event("all kept", kept == groups)
    return source.case({"scores": scores}, groups=groups, kept=kept)


LIMIT_GROUPS = Component(
    name="limit_groups",
    numpy=numpy_router.limit_groups,
    torch=torch_router.limit_groups,
    draw=draw_groups,
    exact=True,
    dtypes=("float64",),
    events=("negative", "groups of one", "some kept", "all kept", "ties"),
    shapes={"small": lambda rng: Case({"scores": rng.standard_normal((5, 8))}, {"groups": 4, "kept": 2})},
    compiles=False,
    flops=lambda case: 2 * case.arrays["scores"].size,
    bytes=lambda case, size: 2 * size * case.arrays["scores"].size,
    bugs=(
        Bug("0 for -inf", "numpy", "grouped, -np.inf)", "grouped, 0.0)"),
        Bug("a group is as good as its best", "numpy", "[..., -2:]", "[..., -1:]", needs=("some kept",)),
        Bug("a group is as good as all of it", "numpy", "[..., -2:]", "[..., :]", needs=("some kept",)),
        Bug("the worst groups", "numpy", "np.argsort(-np.sum(best", "np.argsort(np.sum(best"),
        Bug("one group too many", "torch", "top_experts(rating, kept)", "top_experts(rating, min(kept + 1, groups))", needs=("some kept",)),
        Bug("groups are interleaved", "torch", "scores.unflatten(-1, (groups, -1))", "scores.unflatten(-1, (-1, groups)).mT", needs=("some kept",)),
    ),
)  # fmt: skip


def draw_gates(source):
    lead, experts = source.leading(), source.integer(1, 9)
    scoring, gate = source.choice(*SCORINGS), source.choice(*GATES)
    logits = source.array("logits", (*lead, experts), ("one", "tiny", "sixteen", "ties", "constant", "zero", "offset"))
    k = source.integer(1, experts)
    indices = numpy_router.top_experts(logits, k)
    empty = source.choice("none", "some", "all")
    indices = np.where(source.rng.random(indices.shape) < {"none": 0.0, "some": 0.4, "all": 1.0}[empty], NONE, indices)
    source.event(scoring)
    source.event(gate)
    source.event(f"{empty} empty")
    source.event("several", k > 1)
    source.event("partly empty", gate != "chosen" and k > 1 and bool((indices == NONE).any() and (indices != NONE).any()))
    source.event("one of many", k == 1 < experts)
    source.event("some of many", 1 < k < experts)
    return source.case({"logits": logits, "indices": indices}, scoring=scoring, gate=gate, scale=source.choice(1.0, 2.5))


GATE_WEIGHTS = Component(
    name="gate_weights",
    numpy=numpy_router.gate_weights,
    torch=torch_router.gate_weights,
    draw=draw_gates,
    differentiable=("logits",),
    kernels=(ROUTER_SCORES,),
    dtypes=WIDE,
    events=(*SCORINGS, *GATES, "none empty", "some empty", "all empty", "several", "one of many", "ties"),
    shapes={
        "small": lambda rng: Case({"logits": rng.standard_normal((5, 4)), "indices": np.array([[0, 2]] * 4 + [[3, -1]])})
    },
    compiles=False,
    flops=lambda case: 8 * case.arrays["logits"].size,
    bytes=lambda case, size: 2 * size * case.arrays["logits"].size,
    bugs=(
        Bug("raw scores without renormalisation", "numpy", "share = s / total", "share = s", needs=("renormalised", "some of many")),
        Bug("a weight divided by itself, as if the sum were a constant", "numpy", "(dw - np.sum(dw * share, axis=-1, keepdims=True)) / total", "dw / total", needs=("renormalised", "several")),
        Bug("raw weights renormalised", "numpy", 'if gate == "raw":', "if False:", needs=("raw", "some of many")),
        Bug("softmax over all for the chosen", "numpy", 'if gate == "chosen":', "if False:", needs=("chosen", "sigmoid", "several")),
        Bug("scale forgotten", "numpy", "return scale * share, vjp", "return share, vjp", needs=("renormalised",)),
        Bug("gradient to the chosen logits alone", "numpy", "scores_vjp(back(scale * dw))", "scores_vjp(back(scale * dw)) * np.any(places[..., None] == np.arange(logits.shape[-1]), axis=-2)", needs=("raw", "softmax", "some of many")),
        Bug("empty slots weigh in the sum", "torch", ".gather(-1, place).masked_fill(empty, 0)", ".gather(-1, place)", needs=("partly empty",)),
        Bug("the weight of a neighbour", "torch", "place = indices.clamp(min=0)", "place = indices.clamp(min=0).flip(-1)", needs=("several",)),
        Bug("logits as weights", "torch", "weights = router_scores(logits, scoring)", "weights = logits"),
        Bug("sum without gradient", "torch", "(weights.sum(-1, keepdim=True) + 1e-20)", "(weights.sum(-1, keepdim=True).detach() + 1e-20)", needs=("renormalised", "several")),
    ),
)  # fmt: skip


def draw_choice(source):
    tokens, experts = source.integer(1, 9), source.integer(1, 5)
    capacity = source.integer(1, tokens)
    scores = source.array("scores", (tokens, experts), ("one", "ties", "constant", "zero"))
    source.event("all tokens", capacity == tokens)
    source.event("some tokens", capacity < tokens)
    return source.case({"scores": scores}, capacity=capacity)


EXPERT_CHOICE = Component(
    name="expert_choice",
    numpy=numpy_router.expert_choice,
    torch=torch_router.expert_choice,
    draw=draw_choice,
    exact=True,
    dtypes=("float64",),
    events=("all tokens", "some tokens", "ties", "zero"),
    shapes={"small": lambda rng: Case({"scores": rng.standard_normal((6, 4))}, {"capacity": 3})},
    compiles=False,
    flops=lambda case: case.arrays["scores"].size,
    bytes=lambda case, size: size * case.arrays["scores"].size,
    bugs=(
        Bug("tokens choose", "numpy", "top_experts(scores.T, capacity)", "top_experts((scores - scores.sum(-1, keepdims=True)).T, capacity)", needs=("some tokens",)),
        Bug("one too few", "numpy", "axis=-2).T", "axis=-2).T & (np.arange(tokens)[:, None] != order[:, -1])"),
        Bug("number of the token", "numpy", "np.where(taken, np.arange(experts), NONE)", "np.where(taken, np.arange(tokens)[:, None], NONE)"),
        Bug("0 for none", "torch", "torch.arange(experts, device=scores.device), NONE)", "torch.arange(experts, device=scores.device), 0)", needs=("some tokens",)),
        Bug("of equal tokens the last", "torch", "torch.sort(scores.mT, dim=-1, descending=True, stable=True).indices", "(tokens - 1 - torch.sort(scores.mT.flip(-1), dim=-1, descending=True, stable=True).indices)", needs=("some tokens", "zero")),
    ),
)  # fmt: skip

COMPONENTS = (
    ROUTER_LOGITS, NOISY_LOGITS, ROUTER_SCORES, TOP_EXPERTS, LIMIT_GROUPS, GATE_WEIGHTS, EXPERT_CHOICE,
)  # fmt: skip
