"""Declaration of warmup_cosine."""

import numpy_ref.training.schedules as numpy_schedules
import torch_impl.training.schedules as torch_schedules
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

COMPONENTS = (SCHEDULE,)
