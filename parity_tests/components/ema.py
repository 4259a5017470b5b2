"""Declarations of ema and its form in place."""

import numpy as np
import torch

import numpy_ref.training.ema as numpy_ema
import torch_impl.training.ema as torch_ema
from parity_tests.components.adamw import lerp_terms
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.trees import tree_map


def draw(source):
    shapes = {"a": (source.size(17), source.size(9)), "b": (source.size(33),), "c": (2, 1, 3)}
    step, decay = source.choice(0, 1, 5, 1000, 10**6), source.choice(0.5, 0.9, 0.999)
    source.event("first step", step == 0)
    source.event("early", (1 + step) / (10 + step) < decay)
    source.event("late", (1 + step) / (10 + step) > decay)
    arrays = {
        "averages": {name: source.array(name, shape, ("one", "sixteen")) for name, shape in shapes.items()},
        "params": {name: source.array(name, shape, ("one", "small", "heavy")) for name, shape in shapes.items()},
    }
    source.layouts.clear()  # the averages are copies of the weights: contiguous
    return source.case(arrays, decay=decay, step=step)


def lerp_error(arguments, dy, unit):
    decay = min(arguments["decay"], (1 + arguments["step"]) / (10 + arguments["step"]))
    averages, params = arguments["averages"], arguments["params"]
    return {f"value[{name}]": lerp_terms(averages[name], params[name], 1 - decay) for name in averages}


def on_copies(function, arguments):
    """The form in place works on copies, and what it leaves there is its result."""
    if function.__name__ != "ema_":
        return function(**arguments)
    arguments = tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, arguments)
    function(**arguments)
    return arguments["averages"]


def fixed(rng):
    arrays = {name: {"a": rng.standard_normal((64, 64)), "b": rng.standard_normal(64)} for name in ("averages", "params")}
    return Case(arrays, {"decay": 0.999, "step": 500})


def _declaration(name, torch_function, bugs):
    return Component(
        name=name,
        numpy=numpy_ema.ema,
        torch=torch_function,
        draw=draw,
        call=on_copies,
        cancellation=lerp_error,
        dtypes=("float64", "float32"),  # averages are kept in the format of the master weights
        events=("first step", "early", "late"),
        shapes={"showcase": fixed},
        compiles=False,
        flops=lambda case: 3 * sum(np.size(array) for array in case.arrays["params"].values()),
        bytes=lambda case, size: 3 * size * sum(np.size(array) for array in case.arrays["params"].values()),
        bugs=bugs,
    )


EMA = _declaration(
    "ema",
    torch_ema.ema,
    (
        Bug("weights exchanged", "numpy", "decay * average + (1.0 - decay) * params[name]", "(1.0 - decay) * average + decay * params[name]"),
        Bug("decay from the first step on", "numpy", "min(decay, (1 + step) / (10 + step))", "decay"),
        Bug("begins one step late", "numpy", "(1 + step) / (10 + step)", "step / (9 + step)"),
        Bug("a mean of all steps", "numpy", "min(decay, (1 + step) / (10 + step))", "(1 + step) / (10 + step)"),
        Bug("never moves", "torch", "1 - decay)", "0.0)"),
        Bug("always the new weights", "torch", "1 - decay)", "1.0)"),
        Bug("largest for smallest", "torch", "min(decay,", "max(decay,", "_decay"),
    ),
)
EMA_IN_PLACE = _declaration(
    "ema_",
    torch_ema.ema_,
    (
        Bug("weights exchanged", "torch", "1 - _decay(decay, step)", "_decay(decay, step)"),
        Bug("weights of another parameter", "torch", "[params[name] for name in averages]", "[params[name] * (name != \"b\") for name in averages]"),
        Bug("not in place", "torch", "torch._foreach_lerp_(list(averages.values())", "torch._foreach_lerp_([a.clone() for a in averages.values()]"),
        Bug("the first alone", "torch", "torch._foreach_lerp_(list(averages.values()), [params[name] for name in averages]", "torch._foreach_lerp_(list(averages.values())[:1], [params[name] for name in averages][:1]"),
        Bug("decay from the first step on", "torch", "min(decay, (1 + step) / (10 + step))", "decay", "_decay"),
    ),
)

COMPONENTS = (EMA, EMA_IN_PLACE)
