"""Declarations of what is done to rewards: moments, normalisation, penalties, potentials, mixtures."""

import numpy as np

import numpy_ref.reward.shaping as numpy_shaping
import torch_impl.reward.shaping as torch_shaping
from parity_tests.harness.declaration import Bug, Component

PLAIN = ("one", "small", "sixteen", "offset", "ties", "zero", "constant")
DTYPES = ("float64", "float32")


def component(name, draw, events, bugs, **more):
    """All of them are small, and values alone."""
    pair = getattr(numpy_shaping, name), getattr(torch_shaping, name)
    return Component(name, *pair, draw, dtypes=DTYPES, compiles=False, events=events, bugs=bugs, **more)


def moments_before(source):
    count = source.choice(0, 1, 2, 1000)
    source.event(f"{count} before")
    squares = float(source.rng.uniform(0.1, 4) * count) if count > 1 else 0.0
    return {"count": count, "mean": float(source.rng.normal()) if count else 0.0, "squares": squares}


def draw_update(source):
    size = source.choice(0, 1, source.size(33))
    source.event("an empty batch", size == 0)
    return source.case({"rewards": source.array("rewards", (size,), PLAIN)}, moments=moments_before(source))


UPDATE_MOMENTS = component(
    "update_moments",
    draw_update,
    ("an empty batch", "0 before", "1000 before", "offset"),
    (
        Bug("mean of means", "numpy", "apart * more / count", "apart / 2", needs=("1000 before",)),
        Bug("distance of the means forgotten", "numpy", "+ apart**2 * before * more / count", "+ 0 * before"),
        Bug("squares of the rewards", "numpy", "np.sum((batch - average) ** 2)", "np.sum(batch**2)"),
        Bug("distance counted for the batch alone", "numpy", "before * more / count", "more"),
        Bug("squares forgotten", "torch", 'moments["squares"] + own', "own", needs=("1000 before",)),
        Bug("batch forgotten in the count", "torch", '"count": count', '"count": before'),
    ),
    inside="float64",
)


def draw_normalise(source):
    rewards = source.array("rewards", (source.size(33),), PLAIN)
    centre = source.flag()
    source.event("not centred", not centre)
    return source.case({"rewards": rewards}, moments=moments_before(source), centre=centre)


NORMALISE = component(
    "normalise",
    draw_normalise,
    ("0 before", "1 before", "1000 before", "not centred"),
    (
        Bug("divided by the variance", "numpy", 'math.sqrt(moments["squares"] / moments["count"])', 'moments["squares"] / moments["count"]'),
        Bug("deviation of the sum", "numpy", '/ moments["count"])', ")"),
        Bug("always centred", "numpy", "if centre else rewards", "if True else rewards", needs=("not centred",)),
        Bug("never centred", "numpy", "if centre else rewards", "if False else rewards"),
        Bug("one reward is enough", "torch", 'moments["count"] < 2', 'moments["count"] < 1', needs=("1 before",)),
        Bug("mean added", "torch", 'rewards - moments["mean"]', 'rewards + moments["mean"]'),
    ),
)

CLIP_REWARDS = component(
    "clip_rewards",
    lambda source: source.case({"rewards": source.array("rewards", (source.size(33),))}, limit=source.choice(0.5, 1.0, 10.0)),
    ("sixteen", "heavy"),
    (
        Bug("above alone", "numpy", "np.clip(rewards, -limit, limit)", "np.minimum(rewards, limit)"),
        Bug("negative rewards lost", "numpy", "np.clip(rewards, -limit,", "np.clip(rewards, 0 * limit,"),
        Bug("limit 1", "torch", "clamp(-limit, limit)", "clamp(-1, 1)"),
        Bug("not at all", "torch", ".clamp(-limit, limit)", " * 1"),
    ),
)


def draw_length(source):
    lengths = source.rng.integers(0, 20, source.size(17))
    free = source.choice(0, 5, 100)
    source.event("all free", free == 100)
    return source.case({"lengths": lengths}, each=source.choice(0.01, 0.3), free=free)


LENGTH_PENALTY = component(
    "length_penalty",
    draw_length,
    ("all free",),
    (
        Bug("a bonus for short answers", "numpy", "np.maximum(lengths - free, 0)", "(lengths - free)"),
        Bug("a bonus for length", "numpy", "-each *", "each *"),
        Bug("free tokens forgotten", "numpy", "lengths - free", "lengths"),
        Bug("one token more is free", "torch", "lengths - free", "lengths - free - 1"),
    ),
    outputs={"value": "float64"},
    inside="float64",
)


def draw_end(source):
    rewards = source.array("rewards", (source.size(17),), PLAIN)
    ended = source.rng.random(len(rewards)) < source.choice(0.0, 0.5, 1.0)
    replace = source.flag()
    source.event("replaced", replace and not ended.all())
    source.event("all ended", bool(ended.all()))
    return source.case({"rewards": rewards, "ended": ended}, penalty=source.choice(0.5, 1.0), replace=replace)


MISSING_END_PENALTY = component(
    "missing_end_penalty",
    draw_end,
    ("replaced", "all ended"),
    (
        Bug("those that ended pay", "numpy", "np.where(ended,", "np.where(~ended,"),
        Bug("a bonus", "numpy", "rewards - penalty", "rewards + penalty"),
        Bug("always replaced", "numpy", "if replace else", "if True else"),
        Bug("replaced by the penalty itself", "torch", "torch.full_like(rewards, -penalty)", "torch.full_like(rewards, penalty)", needs=("replaced",)),
        Bug("never replaced", "torch", "if replace else", "if False else", needs=("replaced",)),
    ),
)


def draw_overlong(source):
    limit = source.choice(10, 20)
    lengths = np.concatenate((source.rng.integers(0, 30, source.size(17)), [limit, limit - 3, 0, limit + 5]))
    buffer = source.choice(1, 4, limit)
    source.event("the whole length slopes", buffer == limit)
    return source.case({"lengths": lengths}, limit=limit, buffer=buffer, factor=source.choice(1.0, 0.5))


SOFT_OVERLONG_PENALTY = component(
    "soft_overlong_penalty",
    draw_overlong,
    ("the whole length slopes",),
    (
        Bug("no floor", "numpy", "np.clip(beyond / buffer, 0.0, 1.0)", "np.maximum(beyond / buffer, 0.0)"),
        Bug("a bonus for short answers", "numpy", "np.clip(beyond / buffer, 0.0, 1.0)", "np.minimum(beyond / buffer, 1.0)"),
        Bug("slope begins at the limit", "numpy", "lengths - (limit - buffer)", "lengths - limit"),
        Bug("slope over the whole limit", "torch", ") / buffer)", ") / limit)"),
        Bug("factor forgotten", "torch", "-factor *", "-1 *"),
    ),
    outputs={"value": "float64"},
    inside="float64",
)


def draw_potentials(source):
    shape = source.integer(1, 3), source.size(9)
    potentials = source.array("potentials", shape, PLAIN)
    first = source.rng.integers(0, shape[1], (shape[0], 1))
    last = source.rng.integers(0, shape[1] + 1, (shape[0], 1))
    place = np.arange(shape[1])
    mask = (place >= first) & (place < last)
    source.event("ends before the row", bool((last < shape[1]).any()))
    source.event("no token", bool((~mask).all(1).any()))
    return source.case({"potentials": potentials, "mask": mask}, gamma=source.choice(1.0, 0.9))


POTENTIAL_SHAPING = component(
    "potential_shaping",
    draw_potentials,
    ("ends before the row", "no token"),
    (
        Bug("the end keeps its potential", "numpy", "np.zeros_like(here[:, :1])", "here[:, -1:]"),
        Bug("padding has a potential", "numpy", "here = np.where(mask, potentials, 0.0)", "here = (potentials + 0.0)"),
        Bug("backwards", "numpy", "gamma * after - here", "here - gamma * after"),
        Bug("discount on the wrong side", "numpy", "gamma * after - here", "after - gamma * here"),
        Bug("discount forgotten", "torch", "gamma * F.pad(", "1 * F.pad("),
        Bug("padding is shaped", "torch", "- here).masked_fill(~mask, 0)", "- here)"),
    ),
)


def draw_mixture(source):
    rewards = source.array("rewards", (source.integer(1, 4), source.size(17)), ("one", "sixteen", "offset", "ties", "zero", "constant"))
    if source.flag():  # one of them is everywhere the same, and has no say
        rewards = rewards * 1.0
        rewards[0] = 0.5
        source.layouts.pop("rewards")
        source.event("a constant reward")
    each = source.flag()
    source.event("each normalised", each)
    weights = source.weight("weights", (len(rewards),))
    return source.case({"rewards": rewards, "weights": weights}, each_normalised=each, eps=source.choice(1e-8, 1e-4))


def spread_error(arguments, dy, unit):
    """What is left of (r - mean) by rounding is divided by its own size where a reward is constant."""
    rewards, weights = arguments["rewards"], arguments["weights"]
    if not arguments["each_normalised"]:
        return {}
    mean = rewards.mean(1, keepdims=True)
    spread = rewards.std(1, keepdims=True)
    lost = np.abs(weights[:, None]) * (np.abs(rewards) + np.abs(mean)) / (spread + arguments["eps"])
    return {"value": 4 * lost.sum(0)}


MIXTURE = component(
    "mixture",
    draw_mixture,
    ("a constant reward", "each normalised"),
    (
        Bug("mean of the rewards", "numpy", "np.sum(weights[:, None]", "np.mean(weights[:, None]"),
        Bug("weights forgotten", "numpy", "weights[:, None] * rewards", "weights[:, None] ** 0 * rewards"),
        Bug("over the rewards", "numpy", "np.mean(rewards, axis=1, keepdims=True)", "np.mean(rewards, axis=0, keepdims=True)", needs=("each normalised",)),
        Bug("variance for deviation", "numpy", "np.sqrt(np.mean(centred * centred, axis=1, keepdims=True))", "np.mean(centred * centred, axis=1, keepdims=True)", needs=("each normalised",)),
        Bug("deviation of a sample", "torch", "correction=0", "correction=1", needs=("each normalised",)),
        Bug("not centred", "torch", "(rewards - mean)", "rewards", needs=("each normalised",)),
    ),
    cancellation=spread_error,
)

COMPONENTS = (
    UPDATE_MOMENTS, NORMALISE, CLIP_REWARDS, LENGTH_PENALTY, MISSING_END_PENALTY, SOFT_OVERLONG_PENALTY, POTENTIAL_SHAPING,
    MIXTURE,
)  # fmt: skip
