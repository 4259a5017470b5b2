"""Declarations of group advantages and of the objectives over groups."""

import numpy as np

import numpy_ref.grpo.advantages as numpy_advantages
import numpy_ref.grpo.objective as numpy_objective
import torch_impl.grpo.advantages as torch_advantages
import torch_impl.grpo.objective as torch_objective
from parity_tests.components.masked import DTYPES, shapes, size
from parity_tests.components.ppo import RATIO_EVENTS, THREE, draw_ratios
from parity_tests.harness.declaration import Bug, Case, Component


def draw_rewards(source):
    """Rewards that differ, that are all equal, that all but are, one success among failures; some are not valid."""
    shape = source.integer(1, 5), source.choice(2, 3, 4, 8)
    kind = source.choice("any rewards", "right or wrong", "right or wrong", "all equal", "one stray success", "all but equal")
    rewards = source.array("rewards", shape, ("one", "sixteen", "ties"))
    if kind == "right or wrong":
        rewards = (source.rng.random(shape) < 0.5) * 1.0
    elif kind == "all equal":
        rewards = np.broadcast_to(source.choice(0.0, 1.0, 0.1, 0.7) + np.zeros(shape), shape).copy()
    elif kind == "one stray success":
        rewards = (np.arange(shape[1]) == 0) + np.zeros(shape)
    elif kind == "all but equal":
        rewards = 0.7 + 2.0**-20 * source.rng.integers(0, 2, shape)
    valid = None
    if source.flag():
        valid = source.rng.random(shape) < source.choice(0.8, 0.3)
        rewards = np.where(valid, rewards, source.choice(np.nan, 1e6))
        source.event("not all valid", not valid.all())
        source.event("one valid of a group", bool((valid.sum(-1) == 1).any()))
        source.event("none valid", bool((valid.sum(-1) == 0).any()))
    source.event(kind)
    source.layouts.clear()
    return {"rewards": rewards, "valid": valid}


def draw_advantages(source):
    arrays, kind = draw_rewards(source), source.choice("deviation", "mean", "rloo")
    source.event(kind)
    return source.case(arrays, kind=kind, eps=source.choice(1e-4, 1e-4, 1e-8))


def group_shape(prompts, group, **static):
    return lambda rng: Case({"rewards": rng.standard_normal((prompts, group))}, static)


GROUP_EVENTS = (
    "any rewards", "right or wrong", "all equal", "one stray success", "all but equal", "not all valid",
    "one valid of a group", "none valid",
)  # fmt: skip

GROUP_ADVANTAGES = Component(
    name="group_advantages",
    numpy=numpy_advantages.group_advantages,
    torch=torch_advantages.group_advantages,
    compiles=False,
    draw=draw_advantages,
    dtypes=DTYPES,
    events=(*GROUP_EVENTS, "deviation", "mean", "rloo"),
    shapes={"small": group_shape(3, 4), "showcase": group_shape(32, 8), "wide": group_shape(1024, 16)},
    flops=lambda case: 6 * case.arrays["rewards"].size,
    bytes=lambda case, width: 2 * width * case.arrays["rewards"].size,
    bugs=(
        Bug("biased deviation", "numpy", "keepdims=True) / others) + eps", "keepdims=True) / np.maximum(1, count)) + eps"),
        Bug("what rounding leaves of equal rewards (NeMo-RL)", "numpy", "np.where(informative(rewards, valid)[:, None], centred, 0.0)", "np.where(np.any(valid, axis=-1, keepdims=True), rewards - (1 - 1e-6) * np.sum(rewards, axis=-1, keepdims=True) / np.maximum(1, count), 0.0)", needs=("all equal",)),
        Bug("singleton keeps its reward (verl)", "numpy", "np.where(informative(rewards, valid)[:, None], centred, 0.0)", "np.where(count == 1, rewards, centred)", needs=("one valid of a group",)),
        Bug("invalid rewards pull the mean", "numpy", "np.sum(rewards, axis=-1, keepdims=True) / np.maximum(1, count), 0.0)", "np.sum(rewards, axis=-1, keepdims=True) / rewards.shape[1], 0.0)"),
        Bug("invalid completions have an advantage", "numpy", "centred = np.where(valid, rewards - ", "centred = np.where(True, rewards - ", needs=("not all valid", "right or wrong")),
        Bug("over all groups", "numpy", "np.sum(rewards, axis=-1, keepdims=True)", "np.sum(rewards, keepdims=True)"),
        Bug("leave-one-out as the mean", "numpy", 'kind == "rloo":', 'kind == "none":', needs=("rloo", "right or wrong")),
        Bug("Dr. GRPO divided by the deviation", "numpy", 'if kind == "deviation":', 'if kind != "rloo":', needs=("mean", "right or wrong")),
        Bug("biased in Torch", "torch", "/ others).sqrt()", "/ count.clamp(min=1)).sqrt()"),
        Bug("eps inside the root", "torch", ".sqrt() + eps)", " .add(eps).sqrt())"),
        Bug("rewards NaN where not valid", "torch", "rewards = torch.where(valid, rewards, 0)", "pass"),
        Bug("leave-one-out upside down", "torch", "centred * count / others", "centred * others / count.clamp(min=1)"),
    ),
)


def draw_informative(source):
    return source.case(draw_rewards(source))


INFORMATIVE = Component(
    name="informative",
    numpy=numpy_advantages.informative,
    torch=torch_advantages.informative,
    compiles=False,
    draw=draw_informative,
    dtypes=DTYPES,
    exact=True,
    events=GROUP_EVENTS,
    shapes={"small": group_shape(3, 4), "showcase": group_shape(32, 8)},
    flops=lambda case: 2 * case.arrays["rewards"].size,
    bytes=lambda case, width: width * case.arrays["rewards"].size,
    bugs=(
        Bug("groups without a success", "numpy", "largest > np.min", "largest > 0.0 * np.min"),
        Bug("equal ones too", "numpy", "largest > np.min", "largest >= np.min"),
        Bug("invalid rewards compared", "numpy", "np.where(valid, rewards, -np.inf)", "rewards"),
        Bug("nearly equal is equal", "torch", "amax(-1) >", "amax(-1) - 1e-3 >", needs=("all but equal",)),
        Bug("over groups", "torch", "torch.inf).amin(-1)", "torch.inf).amin()"),
    ),
)


def draw_group_loss(source):
    arrays, kind = draw_ratios(source, wide=True), source.choice("grpo", "dapo", "dr_grpo", "gspo", "cispo")
    source.event(kind)
    static = {"clip_high": source.choice(0.2, 0.28, 4.0), "dual_clip": source.choice(0.0, 3.0)}
    denominator = source.choice(None, None, 9)
    source.event("denominator of the whole step", denominator is not None)
    return source.case(arrays, kind=kind, denominator=denominator, **static)


def group_shapes(**static):
    """As ``shapes``, with one advantage a row."""

    def build(original):
        def one(rng):
            case = original(rng)
            return Case(case.arrays | {"advantages": case.arrays["advantages"][:, :1].copy()}, case.static)

        return one

    return {name: build(original) for name, original in shapes(THREE, **static).items()}


def declare(name, draw, events, bugs, **static):
    return Component(
        name=name,
        numpy=getattr(numpy_objective, name),
        torch=getattr(torch_objective, name),
        draw=draw,
        differentiable=("logprobs",),
        dtypes=DTYPES,
        events=events,
        compiles=False,
        shapes=group_shapes(**static),
        flops=lambda case: 10 * size(case),
        bytes=lambda case, width: (3 * width + 1) * size(case),
        bugs=bugs,
    )


GROUP_LOSS = declare(
    "group_loss",
    draw_group_loss,
    (*RATIO_EVENTS, "grpo", "dapo", "dr_grpo", "gspo", "cispo", "denominator of the whole step"),
    (
        Bug("dapo averages completions", "numpy", "dual_clip, BY[kind]", "dual_clip, \"sequence\"", needs=("dapo", "mask: completions")),
        Bug("cispo's largest weight", "numpy", "1.0 + clip_high, denominator", "clip_high, denominator", needs=("cispo", "clipped")),
        Bug("gspo's bounds exchanged", "numpy", "mask, clip_low, clip_high, denominator)", "mask, clip_high, clip_low, denominator)", needs=("gspo", "clipped")),
        Bug("gspo by tokens", "numpy", 'if kind == "gspo":', 'if kind == "none":', needs=("gspo", "clipped")),
        Bug("no dual clip", "torch", "clip_high, dual_clip, by", "clip_high, 0.0, by", needs=("dapo", "beyond the guard")),
        Bug("denominator forgotten", "torch", "dual_clip, by, denominator)", "dual_clip, by, None)", needs=("denominator of the whole step", "dapo")),
        Bug("cispo clipped like the others", "torch", 'if kind == "cispo":', 'if kind == "none":', needs=("cispo", "clipped")),
    ),
)


def draw_denominator(source):
    kind, length = source.choice("grpo", "dapo", "dr_grpo", "gspo", "cispo"), source.choice(None, 40)
    source.event(kind)
    source.event("length given", kind == "dr_grpo" and length is not None)
    return source.case({"mask": source.rng.random((source.integer(1, 5), source.size(17))) < 0.6}, kind=kind, length=length)


GROUP_DENOMINATOR = Component(
    name="group_denominator",
    numpy=numpy_objective.group_denominator,
    torch=torch_objective.group_denominator,
    compiles=False,
    draw=draw_denominator,
    exact=True,
    dtypes=("float64",),
    call=lambda function, arguments: np.int64(int(function(**arguments))),
    events=("grpo", "dapo", "dr_grpo", "gspo", "cispo", "length given"),
    shapes={"showcase": lambda rng: Case({"mask": rng.random((64, 32)) < 0.6})},
    bugs=(
        Bug("tokens for all", "numpy", "loss_denominator(mask, BY[kind], length)", 'loss_denominator(mask, "token", length)'),
        Bug("length ignored", "numpy", "BY[kind], length)", "BY[kind])"),
        Bug("completions for all", "torch", "loss_denominator(mask, _by(kind), length)", 'loss_denominator(mask, "sequence", length)'),
        Bug("length ignored in Torch", "torch", "_by(kind), length)", "_by(kind))"),
    ),
)


def draw_gspo(source):
    arrays = draw_ratios(source, wide=True)
    low, high = source.choice((3e-4, 4e-4), (0.1, 0.2))
    return source.case(arrays, clip_low=low, clip_high=high, denominator=source.choice(None, None, 9))


GSPO_LOSS = declare(
    "gspo_loss",
    draw_gspo,
    RATIO_EVENTS,
    (
        Bug("product of the ratios, not their mean", "numpy", "keepdims=True) / tokens\n", "keepdims=True)\n"),
        Bug("mean of the ratios", "numpy", "log_ratio = np.sum(np.where(mask, logprobs - old_logprobs, 0.0), axis=-1, keepdims=True) / tokens", "log_ratio = np.log(np.sum(np.where(mask, np.exp(np.clip((logprobs - old_logprobs).real, -9, 9)), 0.0), axis=-1, keepdims=True) / tokens + 1e-30)"),
        Bug("each token has the whole gradient", "numpy", "np.where(counts & inside, plain, 0.0) / tokens", "np.where(counts & inside, plain, 0.0)"),
        Bug("clipped completions have a gradient", "numpy", "counts & inside", "inside", needs=("clipped",)),
        Bug("mean over the padding", "numpy", "np.maximum(1, np.sum(mask, axis=-1, keepdims=True))", "np.full((len(mask), 1), mask.shape[1])"),
        Bug("ratio upside down in Torch", "torch", "logprobs - old_logprobs, 0).sum(-1)", "old_logprobs - logprobs, 0).sum(-1)"),
        Bug("averaged over tokens", "torch", 'loss_denominator(mask, "sequence")', 'loss_denominator(mask, "token")'),
        Bug("never clipped", "torch", "torch.where(clipped, held, ratio)", "ratio", needs=("clipped",)),
        Bug("empty rows have a loss", "torch", "torch.where(mask.any(-1), advantages[:, 0], 0)", "advantages[:, 0]", needs=("mask: an empty row",)),
    ),
)


def draw_cispo(source):
    arrays, largest = draw_ratios(source), source.choice(5.0, 1.2)
    return source.case(arrays, largest=largest, denominator=source.choice(None, None, 9))


CISPO_LOSS = declare(
    "cispo_loss",
    draw_cispo,
    (*RATIO_EVENTS, "one advantage a row"),
    (
        Bug("gradient through the weight", "numpy", "np.where(mask, logprobs.real - old_logprobs, 0.0)", "np.where(mask, logprobs - old_logprobs, 0.0)\n    slope = 0\n    log_ratio = log_ratio.real * 2"),
        Bug("no largest weight", "numpy", "np.minimum(np.exp(np.minimum(log_ratio, GUARD)), largest)", "np.exp(np.minimum(log_ratio, GUARD))", needs=("clipped",)),
        Bug("clipped tokens left out", "numpy", "return loss, lambda dy: mean_vjp(dy) * slope", "return loss, lambda dy: mean_vjp(dy) * slope * (weight < largest)", needs=("clipped",)),
        Bug("minus forgotten", "numpy", "slope = -weight", "slope = weight"),
        Bug("gradient through the weight in Torch", "torch", "logprobs.detach() - old", "logprobs - old"),
        Bug("averaged over completions", "torch", '"token", denominator', '"sequence", denominator', needs=("mask: completions",)),
        Bug("weight forgotten", "torch", "-weight * advantages", "-advantages", needs=("clipped",)),
    ),
)

COMPONENTS = (GROUP_ADVANTAGES, INFORMATIVE, GROUP_LOSS, GROUP_DENOMINATOR, GSPO_LOSS, CISPO_LOSS)
