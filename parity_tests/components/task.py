"""Declarations of pointer chasing: problems and rows, equal to the last bit."""

import numpy_ref.thoughts.task as numpy_task
import torch_impl.thoughts.task as torch_task
from numpy_ref.thoughts.settings import KINDS, UnitConfig
from parity_tests.harness.declaration import Bug, Component


def draw_chains(source):
    static = {"seed": source.integer(0, 2**40), "first": source.integer(0, 10**6), "count": source.integer(1, 9)}
    static |= {"nodes": source.integer(2, 12), "hops": source.integer(1, 5), "stream": source.choice(0, 5 << 32)}
    source.event("odd", static["first"] * (static["nodes"] + 1) % 2 == 1)
    source.event("several hops", static["hops"] > 1)
    return source.case({}, **static)


POINTER_CHAINS = Component(
    name="pointer_chains",
    numpy=numpy_task.pointer_chains,
    torch=torch_task.pointer_chains,
    draw=draw_chains,
    exact=True,
    dtypes=("float64",),
    events=("odd", "several hops"),
    compiles=False,
    bugs=(
        Bug("every batch the same problems", "numpy", "first * (nodes + 1)", "0"),
        Bug("problems overlap", "numpy", "first * (nodes + 1)", "first"),
        Bug("always the same step", "numpy", "walk[-1]]", "walk[0]]"),
        Bug("edges the other way", "numpy", "np.argsort(u[:, :nodes], axis=1", "np.argsort(-u[:, :nodes], axis=1"),
        Bug("start from the first number", "torch", "drawn[:, nodes]", "drawn[:, 0]"),
        Bug("another stream", "torch", "uniform(seed, stream,", "uniform(seed, 7,"),
    ),
)  # fmt: skip


def draw_rows(source):
    kind = source.choice(*KINDS)
    settings = UnitConfig(kind, nodes=source.integer(2, 6), hops=source.integer(1, 5), per_step=source.integer(1, 3))
    stage = {"answer": settings.hops - 1, "span": 0}.get(kind, source.integer(0, settings.hops - 1))
    source.event(kind)
    source.event("words left", stage < settings.hops - 1)
    source.event("units", stage > 0 and kind != "answer")
    batch = source.integer(1, 4)
    edges = source.rng.integers(0, settings.nodes, (batch, settings.nodes))
    walk = source.rng.integers(0, settings.nodes, (batch, settings.hops + 1))
    return source.case({"edges": edges, "walk": walk}, stage=stage, settings=settings)


UNIT_ROWS = Component(
    name="unit_rows",
    numpy=numpy_task.unit_rows,
    torch=torch_task.unit_rows,
    draw=draw_rows,
    exact=True,
    dtypes=("float64",),
    events=(*KINDS, "words left", "units"),
    compiles=False,
    bugs=(
        Bug("the answer stands in the row", "numpy", "walk[:, stage + 1 : settings.hops]]", "walk[:, stage + 1 :]]"),
        Bug("replaced steps stay", "numpy", "walk[:, stage + 1 : settings.hops]", "walk[:, 1 : settings.hops]", needs=("units",)),
        Bug("the node that one stands on is predicted", "numpy", "= walk[:, stage + 1 :]", "= walk[:, stage:-1]"),
        Bug("units are predicted", "numpy", "np.full_like(tokens, -100)", "tokens.copy()"),
        Bug("pauses are thoughts", "numpy", '("thought", "code")', '("thought", "code", "pause")', needs=("pause", "units")),
        Bug("one place late", "torch", "range(settings.question, settings.question + count)", "range(settings.question + 1, settings.question + count + 1)", needs=("units", "thought")),
        Bug("one unit a step", "torch", "stage * settings.per_step", "stage", needs=("units",)),
        Bug("a node for a pause", "torch", "count), settings.nodes)", "count), 0)", needs=("units",)),
    ),
)  # fmt: skip

COMPONENTS = (POINTER_CHAINS, UNIT_ROWS)
