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
    source.event("steps behind", stage > 0)
    source.event("units", stage > 0 and settings.units > 0)
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
        Bug("pauses for what is removed", "numpy", "if settings.units else 0", "", needs=("removal", "steps behind")),
        Bug("one place late", "torch", "range(settings.question, settings.question + count)", "range(settings.question + 1, settings.question + count + 1)", needs=("units", "thought")),
        Bug("one unit a step", "torch", "stage * settings.per_step if", "stage if", needs=("units",)),
        Bug("a node for a pause", "torch", "count), settings.nodes)", "count), 0)", needs=("units",)),
    ),
)  # fmt: skip


def draw_walks(source):
    static = {"seed": source.integer(0, 2**40), "first": source.integer(0, 10**6), "count": source.integer(1, 9)}
    static |= {"nodes": source.integer(2, 12), "hops": source.integer(1, 5), "stream": source.choice(0, 5 << 32)}
    source.event("several hops", static["hops"] > 1 and static["count"] > 4 and static["nodes"] > 4)
    return source.case({}, **static)


FORK_WALKS = Component(
    name="fork_walks",
    numpy=numpy_task.fork_walks,
    torch=torch_task.fork_walks,
    draw=draw_walks,
    exact=True,
    dtypes=("float64",),
    events=("several hops",),
    compiles=False,
    bugs=(
        Bug("problems overlap", "numpy", "first * width", "first"),
        Bug("always the first edge", "numpy", "walks[-1] + nodes * turns", "walks[-1] + 0 * turns", needs=("several hops",)),
        Bug("both walks turn alike", "numpy", "turns[..., hop]", "turns[:, :1, hop]", needs=("several hops",)),
        Bug("the same turn at each hop", "numpy", "turns[..., hop]", "turns[..., 0]", needs=("several hops",)),
        Bug("edges in one order", "torch", "argsort(dim=-1, stable=True)", "argsort(dim=1, stable=True)"),
        Bug("turns the other way", "torch", ">= 0.5", "< 0.5", needs=("several hops",)),
    ),
)  # fmt: skip


def draw_fork_rows(source):
    nodes, hops, count = source.integer(2, 6), source.integer(1, 5), source.integer(1, 6)
    edges, walks = numpy_task.fork_walks(source.integer(0, 2**40), 0, count, nodes, hops)
    source.event("a stray walk", count > 1)
    source.event("several hops", hops > 2 and count > 1)
    tokens, targets = numpy_task.fork_rows(edges, walks, UnitConfig("span", nodes, hops, ways=2))
    source.event("a dead end", bool((targets[:, -1] == 0).any()))
    return source.case({"edges": edges, "walks": walks}, settings=UnitConfig("span", nodes, hops, ways=2))


FORK_ROWS = Component(
    name="fork_rows",
    numpy=numpy_task.fork_rows,
    torch=torch_task.fork_rows,
    draw=draw_fork_rows,
    exact=True,
    dtypes=("float64",),
    events=("a stray walk", "several hops", "a dead end"),
    compiles=False,
    bugs=(
        Bug("every walk has its own goal", "numpy", "walks[:, 0, -1:]", "walks[rows, rows % 2, -1:]", needs=("a dead end",)),
        Bug("stray walks are learnt", "numpy", "targets[::2, settings.question - 1 : -1] = walk[::2", "targets[:, settings.question - 1 : -1] = walk[:", needs=("several hops",)),
        Bug("all arrive", "numpy", "targets[:, -1] = arrives", "targets[:, -1] = 1 | arrives", needs=("a dead end",)),
        Bug("the goal behind the start", "numpy", "[edges, goal, walk[:, :-1]]", "[edges, walk[:, :1], goal, walk[:, 1:-1]]", needs=("a dead end",)),
        Bug("no stray walks", "torch", "% 2 == 1", "% 2 == 2", needs=("a dead end",)),
        Bug("the verdict on every second row", "torch", "walk[:, 1:-1].masked_fill(stray, -100), verdict", "walk[:, 1:-1].masked_fill(stray, -100), verdict.masked_fill(stray, -100)", needs=("a stray walk",)),
    ),
)  # fmt: skip


def draw_arrives(source):
    nodes, count = source.integer(2, 5), source.integer(1, 9)
    edges = source.rng.integers(0, nodes, (count, 2 * nodes))
    chain = source.rng.integers(0, nodes, (count, source.integer(2, 4)))
    found = numpy_task.arrives(edges, chain)
    source.event("some arrive", bool(found.any()) and not found.all())
    source.event("several steps", chain.shape[1] > 2 and count > 4)
    return source.case({"edges": edges, "chain": chain})


ARRIVES = Component(
    name="arrives",
    numpy=numpy_task.arrives,
    torch=torch_task.arrives,
    draw=draw_arrives,
    exact=True,
    dtypes=("float64",),
    events=("some arrive", "several steps"),
    compiles=False,
    bugs=(
        Bug("one edge alone", "numpy", "(ends[0] == chain[:, 1:]) | (ends[1] == chain[:, 1:])", "ends[0] == chain[:, 1:]", needs=("some arrive",)),
        Bug("one step is enough", "numpy", "np.all(", "np.any(", needs=("some arrive", "several steps")),
        Bug("both edges", "numpy", ") | (", ") & (", needs=("some arrive",)),
        Bug("the last step alone", "torch", ".any(1).all(1)", ".any(1)[:, -1]", needs=("some arrive", "several steps")),
        Bug("edges mixed", "torch", "unflatten(1, (2, -1))", "unflatten(1, (-1, 2)).mT", needs=("some arrive",)),
    ),
)  # fmt: skip

COMPONENTS = (POINTER_CHAINS, UNIT_ROWS, FORK_WALKS, FORK_ROWS, ARRIVES)
