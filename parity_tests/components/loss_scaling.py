"""Declaration of update_scale."""

import numpy_ref.training.loss_scaling as numpy_loss_scaling
import torch_impl.training.loss_scaling as torch_loss_scaling
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    interval = source.choice(1, 2, 2000)
    scale = source.choice(1.0, 1.5, 2.0**16, 2.0**23, 2.0**24, 2.0**24)
    finite = source.choice(True, True, False)
    due = source.flag()  # this step completes the interval, or it misses by one
    good_steps = interval - 1 if due else max(0, interval - 2)
    source.event("overflow", not finite)
    source.event("overflow at the smallest scale", not finite and scale < 2)
    source.event("growth", finite and due)
    source.event("growth at the largest scale", finite and due and scale == 2.0**24)
    source.event("one step early", finite and not due and interval > 1)
    return source.case({}, scale=scale, good_steps=good_steps, finite=finite, growth_interval=interval)


UPDATE_SCALE = Component(
    name="update_scale",
    numpy=numpy_loss_scaling.update_scale,
    torch=torch_loss_scaling.update_scale,
    draw=draw,
    dtypes=("float64",),  # Python numbers
    exact=True,
    events=(
        "overflow",
        "overflow at the smallest scale",
        "growth",
        "growth at the largest scale",
        "one step early",
    ),
    compiles=False,
    shapes={"showcase": lambda rng: Case({}, {"scale": 2.0**16, "good_steps": 7, "finite": True})},
    bugs=(
        Bug(
            "grows one step late",
            "numpy",
            "good_steps + 1 < growth_interval",
            "good_steps < growth_interval",
            dtype="float64",
        ),
        Bug(
            "grows one step early",
            "numpy",
            "good_steps + 1 < growth_interval",
            "good_steps + 2 < growth_interval",
            dtype="float64",
        ),
        Bug("falls below 1", "numpy", "max(1.0, scale / 2.0)", "scale / 2.0", dtype="float64"),
        Bug("good steps survive an overflow", "numpy", "scale / 2.0), 0", "scale / 2.0), good_steps", dtype="float64"),
        Bug("quartered", "numpy", "scale / 2.0", "scale / 4.0", dtype="float64"),
        Bug("grows without end", "torch", "min(2.0**24, scale * 2)", "scale * 2", dtype="float64"),
        Bug("good steps survive a growth", "torch", "scale * 2), 0", "scale * 2), good_steps + 1", dtype="float64"),
        Bug("overflow unnoticed", "torch", "if not finite:", "if finite is None:", dtype="float64"),
    ),
)

COMPONENTS = (UPDATE_SCALE,)
