"""Declarations of the schedules, and of the choice among them."""

from dataclasses import replace

import numpy_ref.training.schedules as numpy_schedules
import torch_impl.training.schedules as torch_schedules
from numpy_ref.config import SCHEDULES, TrainConfig
from parity_tests.harness.declaration import Bug, Case, Component

NAMED = ("first step", "last of the warm-up", "first after the warm-up", "last step", "after the end")


def draw(source):
    steps = source.choice(1, 2, 10, source.integer(1, 2000))
    warmup = source.choice(0, 0, 1, steps // 2, steps // 2, steps, steps + 7)
    named = dict(zip(NAMED, (0, max(0, warmup - 1), warmup, steps - 1, steps + source.integer(0, 3)), strict=True))
    name = source.choice(*NAMED, "any step", "any step")
    source.event(name)
    source.event("no warm-up", warmup == 0)
    source.event("warm-up longer than the run", warmup > steps)
    step = named.get(name, source.integer(0, steps))
    source.event("over while warming up", steps <= step < warmup)
    static = {"peak": source.choice(1e-3, 8e-3, 1.0), "final": source.choice(0.0, 0.1, 1.0)}
    return source.case({}, step=step, steps=steps, warmup=warmup, **static)


def products(arguments, dy, unit):
    """Torch's side multiplies by the peak twice and adds; all its terms are positive."""
    return {"value": numpy_schedules.warmup_cosine(**arguments)}


SCHEDULE = Component(
    name="warmup_cosine",
    numpy=numpy_schedules.warmup_cosine,
    torch=torch_schedules.warmup_cosine,
    draw=draw,
    dtypes=("float64",),  # Python floats
    cancellation=products,
    events=(*NAMED, "any step", "no warm-up", "warm-up longer than the run", "over while warming up"),
    compiles=False,
    shapes={"showcase": lambda rng: Case({}, {"step": 500, "steps": 1000, "peak": 8e-3, "warmup": 100})},
    bugs=(
        Bug("warm-up from 0", "numpy", "(step + 1) / warmup", "step / warmup", dtype="float64"),
        Bug(
            "warm-up never reaches the peak",
            "numpy",
            "(step + 1) / warmup",
            "(step + 1) / (warmup + 1)",
            dtype="float64",
        ),
        Bug(
            "cosine over the whole run",
            "numpy",
            "(step - warmup) / (steps - warmup)",
            "step / steps",
            dtype="float64",
        ),
        Bug("cosine one step too fast", "numpy", "/ (steps - warmup)", "/ max(1, steps - warmup - 1)", dtype="float64"),
        Bug("cosine one step ahead", "numpy", "t = (step - warmup)", "t = (step + 1 - warmup)", dtype="float64"),
        Bug(
            "final rate not a share of the peak",
            "numpy",
            "peak * (final + (1.0 - final) *",
            "(final + peak * (1.0 - final) *",
            dtype="float64",
        ),
        Bug("sinks to nothing, then jumps", "numpy", "final + (1.0 - final) * 0.5", "0.5", dtype="float64"),
        Bug("a whole period", "torch", "math.pi * t", "2 * math.pi * t", dtype="float64"),
        Bug("a straight line", "torch", "0.5 * (1 + math.cos(math.pi * t))", "(1 - t)", dtype="float64"),
        Bug("rises again after the end", "torch", "if step >= steps:", "if step >= 2 * steps + 9:", dtype="float64"),
        Bug(
            "warms up past the end",
            "torch",
            "if step >= steps:",
            "if step >= steps and step >= warmup:",
            dtype="float64",
        ),
    ),
)


def peaks(arguments, dy, unit):
    """The same, bounded: both sides add and subtract shares of the peak."""
    return {"value": arguments["peak"]}


LINEAR = replace(
    SCHEDULE,
    name="warmup_linear",
    numpy=numpy_schedules.warmup_linear,
    torch=torch_schedules.warmup_linear,
    cancellation=peaks,
    bugs=(
        Bug("warm-up from 0", "numpy", "(step + 1) / warmup", "step / warmup", dtype="float64"),
        Bug("line over the whole run", "numpy", "(step - warmup) / (steps - warmup)", "step / steps", dtype="float64"),
        Bug("rises", "numpy", "(1.0 - t)", "t", dtype="float64"),
        Bug("final rate not a share of the peak", "numpy", "peak * (final +", "(final + peak *", dtype="float64"),
        Bug("one step ahead", "torch", "(steps - step)", "(steps - step - 1)", dtype="float64"),
        Bug("falls on below the final rate", "torch", "(1 - final) * peak", "peak", dtype="float64"),
        Bug("negative after the end", "torch", "if step >= steps:", "if step == steps:", dtype="float64"),
    ),
)


def draw_endless(source):
    case = draw(source)
    static = {name: case.static[name] for name in ("step", "peak", "warmup", "final")}
    source.event("at the floor", static["step"] >= static["warmup"] and static["final"] == 1.0)
    return Case({}, static, frozenset(source.events))


INVERSE_SQRT = replace(
    SCHEDULE,
    name="warmup_inverse_sqrt",
    numpy=numpy_schedules.warmup_inverse_sqrt,
    torch=torch_schedules.warmup_inverse_sqrt,
    draw=draw_endless,
    cancellation=peaks,
    events=("no warm-up", "last of the warm-up", "first after the warm-up", "any step", "at the floor"),
    shapes={"showcase": lambda rng: Case({}, {"step": 500, "peak": 8e-3, "warmup": 100})},
    bugs=(
        Bug("inverse, not its root", "numpy", "math.sqrt(max(warmup, 1) / (step + 1))", "max(warmup, 1) / (step + 1)", dtype="float64"),
        Bug("jumps after the warm-up", "numpy", "max(warmup, 1) / (step + 1)", "1 / (step + 1)", dtype="float64"),
        Bug("0 without a warm-up", "numpy", "max(warmup, 1)", "warmup", dtype="float64"),
        Bug("counted from the end of the warm-up", "torch", "/ (step + 1)) ** 0.5", "/ max(1, step + 1 - warmup)) ** 0.5", dtype="float64"),
        Bug("floor not a share of the peak", "torch", "max(final * peak,", "max(final,", dtype="float64"),
        Bug("no floor", "torch", "max(final * peak,", "max(0.0,", dtype="float64"),
    ),
)


def draw_stable(source):
    case = draw(source)
    cooldown = source.choice(0.2, 0.5, 1.0, 0.01)
    step, steps, warmup = (case.static[name] for name in ("step", "steps", "warmup"))
    start = steps - round(cooldown * steps)
    source.event("at the peak", warmup <= step < start)
    source.event("cooling down", max(start, warmup) < step < steps)
    source.event("warm-up reaches into the cool-down", start < warmup < step < steps)
    return Case({}, case.static | {"cooldown": cooldown}, frozenset(source.events))


STABLE = replace(
    SCHEDULE,
    name="warmup_stable_decay",
    numpy=numpy_schedules.warmup_stable_decay,
    torch=torch_schedules.warmup_stable_decay,
    draw=draw_stable,
    cancellation=peaks,
    events=(*NAMED, "at the peak", "cooling down", "warm-up reaches into the cool-down"),
    bugs=(
        Bug("cools down from the warm-up on", "numpy", "start = max(warmup, steps - round(cooldown * steps))", "start = warmup", dtype="float64"),
        Bug("cool-down is what stays", "numpy", "round(cooldown * steps)", "round((1 - cooldown) * steps)", dtype="float64"),
        Bug("begins before the warm-up ends", "numpy", "max(warmup, steps - round(cooldown * steps))", "steps - round(cooldown * steps)", dtype="float64"),
        Bug("a straight line", "numpy", "math.sqrt(t)", "t", dtype="float64"),
        Bug("never cools down", "torch", "if past <= 0:", "if past <= steps:", dtype="float64"),
        Bug("one step late", "torch", "past = step - (steps - length)", "past = step - 1 - (steps - length)", dtype="float64"),
        Bug("sinks to nothing, then jumps", "torch", "final * peak + (1 - final) * peak * (1 -", "peak * (1 -", dtype="float64", needs=("cooling down",)),
    ),
)


def draw_choice(source):
    case = draw(source)
    static = case.static
    name = source.choice(*SCHEDULES)
    source.event(name)
    config = TrainConfig(
        steps=static["steps"],
        lr=static["peak"],
        warmup=static["warmup"],
        final_lr=static["final"],
        schedule=name,
        cooldown=source.choice(0.2, 0.5),
    )
    return Case({}, {"step": static["step"], "train_config": config}, frozenset(source.events))


LEARNING_RATE = replace(
    SCHEDULE,
    name="learning_rate",
    numpy=numpy_schedules.learning_rate,
    torch=torch_schedules.learning_rate,
    draw=draw_choice,
    cancellation=lambda a, dy, unit: {"value": a["train_config"].lr},
    events=(*SCHEDULES, *NAMED),
    shapes={},
    bugs=(
        Bug("always a cosine", "numpy", 'c.schedule == "wsd"', "False", dtype="float64"),
        Bug("wsd for linear", "numpy", 'c.schedule == "linear"', "False", dtype="float64"),
        Bug("cool-down left at its default", "numpy", ", c.cooldown)", ")", dtype="float64"),
        Bug("final rate forgotten", "torch", "c.warmup, c.final_lr, **more", "c.warmup, **more", dtype="float64"),
        Bug("inverse root with an end", "torch", 'if c.schedule == "inverse_sqrt":', 'if c.schedule == "inverse_sqrt" and step >= c.steps:\n        return c.final_lr * c.lr\n    if c.schedule == "inverse_sqrt":', dtype="float64"),
    ),
)

COMPONENTS = (SCHEDULE, LINEAR, INVERSE_SQRT, STABLE, LEARNING_RATE)
