"""Declarations of dynamic chunking: routing, smoothing, the ratio loss, choosing and spreading."""

import numpy as np

import numpy_ref.patching.chunking as numpy_chunking
import torch_impl.patching.chunking as torch_chunking
from parity_tests.components.block import random_parameters
from parity_tests.harness.declaration import Bug, Component

PLAIN = ("one", "small", "sixteen")


def draw_route(source):
    batch, length, width = source.integer(1, 3), source.size(17), source.size(9, least=2)
    params = random_parameters(source.rng, {"query.weight": (width, width), "key.weight": (width, width)})
    source.event("one byte", length == 1)
    return source.case({"x": source.array("x", (batch, length, width), PLAIN), "params": params})


ROUTE = Component(
    name="route",
    numpy=numpy_chunking.route,
    torch=torch_chunking.route,
    draw=draw_route,
    differentiable=("x", "params"),
    dtypes=("float64", "float32", "bfloat16"),
    elementwise=("value",),
    events=("one byte",),
    weight=2,
    compiles=False,
    bugs=(
        Bug("a byte with itself", "numpy", "key, key_vjp = linear(x[:, :-1],", "key, key_vjp = linear(x[:, 1:],"),
        Bug("likely where bytes are alike", "numpy", "0.5 * (1.0 - cosine", "0.5 * (1.0 + cosine"),
        Bug("no chunk at the beginning", "numpy", "np.ones_like(x, shape", "np.zeros_like(x, shape"),
        Bug("scores not normed", "numpy", "/ (query_norm * key_norm)\n    first", "/ 1.0\n    first"),
        Bug("the norm has no gradient", "numpy", " - cosine * query / query_norm**2", ""),
        Bug("the later byte alone has a gradient", "numpy", "dx[:, :-1] += dearlier", "dx[:, :-1] += 0"),
        Bug("queries and keys exchanged", "torch", 'linear(x[:, 1:], params["query.weight"]), linear(x[:, :-1], params["key.weight"])', 'linear(x[:, 1:], params["key.weight"]), linear(x[:, :-1], params["query.weight"])'),
        Bug("one norm", "torch", " * ((key * key).sum(-1) + EPS).sqrt()", " * ((query * query).sum(-1) + EPS).sqrt()"),
    ),
)  # fmt: skip


def draw_scan(source):
    batch, length, width = source.integer(1, 3), source.size(33), source.size(5)
    p = source.rng.uniform(0, 1, (batch, length)) ** source.choice(1.0, 4.0)
    p[:, 0] = source.choice(1.0, 0.5)
    sure = source.rng.random(p.shape) < source.choice(0.0, 0.3)
    p[sure] = source.rng.integers(0, 2, np.sum(sure))
    source.event("sure of a border", bool((p[:, 1:] == 1).any()))
    source.event("nothing new", bool((p == 0).any()))
    source.event("long", length > 16)
    return source.case({"z": source.array("z", (batch, length, width), PLAIN), "p": p})


EMA_SCAN = Component(
    name="ema_scan",
    numpy=numpy_chunking.ema_scan,
    torch=torch_chunking.ema_scan,
    draw=draw_scan,
    differentiable=("z", "p"),
    events=("sure of a border", "nothing new", "long"),
    compiles=False,
    bugs=(
        Bug("weights exchanged", "numpy", "p[:, k] * z[:, k] + (1.0 - p[:, k]) * steps[-1]", "(1.0 - p[:, k]) * z[:, k] + p[:, k] * steps[-1]"),
        Bug("the weight of the chunk itself carried on in the backward", "numpy", "carried = (1.0 - p[:, k]) * a[:, k]", "carried = p[:, k] * a[:, k]"),
        Bug("the gradient is not carried on", "numpy", "dy[:, k] + carried", "dy[:, k]"),
        Bug("dp against the chunk itself", "numpy", "a * (z - before)", "a * (z - y)"),
        Bug("begins with the first chunk", "numpy", "np.stack(steps[:-1], axis=1)", "np.stack([steps[1], *steps[1:-1]], axis=1)"),
        Bug("two steps at most", "torch", "step *= 2", "step *= 64", "_scan", needs=("long",)),
        Bug("the keeping is not multiplied up", "torch", "keep[:, step:] * keep[:, :-step]", "keep[:, step:]", "_scan"),
        Bug("the backward keeps by its own weight", "torch", "after.flip(1)", "rest.flip(1)", "backward"),
        Bug("dp without what was before", "torch", "(a * (z - before))", "(a * z)", "backward"),
    ),
)  # fmt: skip


def draw_ratio(source):
    shape = source.integer(1, 3), source.size(17)
    p = source.rng.uniform(0, 1, shape)
    borders = p > source.choice(0.5, 0.9, -1.0)
    target = source.choice(1.5, 2.0, 6.0, 4.5)
    source.event("all are borders", bool(borders.all()))
    return source.case({"p": p, "borders": borders}, target=target)


RATIO_LOSS = Component(
    name="ratio_loss",
    numpy=numpy_chunking.ratio_loss,
    torch=torch_chunking.ratio_loss,
    draw=draw_ratio,
    differentiable=("p",),
    outputs={"value": {"bfloat16": "float32", "float16": "float32"}},
    inside="float32",
    events=("all are borders",),
    compiles=False,
    bugs=(
        Bug("F and G exchanged in one term", "numpy", "(1.0 - share) * (1.0 - mean)", "(1.0 - share) * (1.0 - share)"),
        Bug("least at another ratio", "numpy", "(target - 1.0) * share * mean", "target * share * mean"),
        Bug("factor forgotten", "numpy", "factor = target / (target - 1.0)", "factor = 1.0"),
        Bug("gradient of the sum", "numpy", "/ p.size", "/ len(p)"),
        Bug("gradient without its sign", "numpy", "(target * share - 1.0)", "(target * share)"),
        Bug("the borders' own gradient", "torch", "share, mean = borders.to(p.dtype).mean(), p.mean()", "share, mean = p.mean(), p.mean()"),
        Bug("no gradient", "torch", "p.mean()", "p.detach().mean() + 0 * p.sum()"),
    ),
)  # fmt: skip

def draw_borders(source, batch, length):
    borders = source.rng.random((batch, length)) < source.choice(0.1, 0.5, 1.0)
    borders[:, 0] = True
    counts = borders.sum(1)
    source.event("rows with fewer", bool(counts.min() < counts.max()))
    source.event("every byte", bool(borders.all()))
    return borders


def draw_select(source):
    batch, length, width = source.integer(1, 3), source.size(17), source.size(5)
    x = source.array("x", (batch, length, width))
    return source.case({"x": x, "borders": draw_borders(source, batch, length)})


SELECT = Component(
    name="select",
    numpy=numpy_chunking.select,
    torch=torch_chunking.select,
    draw=draw_select,
    differentiable=("x",),
    events=("rows with fewer", "every byte"),
    compiles=False,
    bugs=(
        Bug("one byte late", "numpy", "y[rows, chunks] = x[rows, places]", "y[rows, chunks] = x[rows, np.maximum(places - 1, 0)]"),
        Bug("gradient to the first bytes", "numpy", "dx[rows, places] = dy[rows, chunks]", "dx[rows, chunks] = dy[rows, chunks]"),
        Bug("the other bytes", "torch", "torch.argsort(~borders,", "torch.argsort(borders,"),
        Bug("rows end in what is no chunk", "torch", ".masked_fill((torch.arange(most, device=x.device) >= counts[:, None])[..., None], 0.0)", "", needs=("rows with fewer",)),
        Bug("in any order", "torch", "x.gather(1, order[..., None]", "x.gather(1, order.flip(1)[..., None]"),
    ),
)  # fmt: skip


def draw_spread(source):
    batch, length, width = source.integer(1, 3), source.size(17), source.size(5)
    borders = draw_borders(source, batch, length)
    p = np.where(borders, source.rng.uniform(0.5, 1, borders.shape), source.rng.uniform(0, 0.5, borders.shape))
    chunks = source.array("chunks", (batch, int(borders.sum(1).max()), width), PLAIN)
    return source.case({"chunks": chunks, "p": p, "borders": borders}, straight_through=False)


SPREAD = Component(
    name="spread",
    numpy=numpy_chunking.spread,
    torch=torch_chunking.spread,
    draw=draw_spread,
    differentiable=("chunks", "p"),
    events=("rows with fewer", "every byte"),
    compiles=False,
    bugs=(
        Bug("p everywhere", "numpy", "np.where(borders, p, 1.0 - p)", "np.where(True, p, 1.0 - p)"),
        Bug("the sign of 1 - p forgotten", "numpy", "np.where(borders, dsure, -dsure)", "dsure"),
        Bug("the chunk before", "numpy", "np.cumsum(borders, axis=1) - 1", "np.maximum(np.cumsum(borders, axis=1) - 2, 0)"),
        Bug("the last byte's gradient alone", "numpy", "np.add.at(dchunks, rows, dy * weight)", "dchunks[rows] = dy * weight"),
        Bug("always straight through", "numpy", "np.ones_like(sure) if straight_through else sure", "np.ones_like(sure)"),
        Bug("p without a gradient", "torch", "torch.where(borders, p, 1 - p)", "torch.where(borders, p, 1 - p).detach()"),
        Bug("always straight through in Torch", "torch", "if straight_through:", "if True:"),
    ),
)  # fmt: skip

COMPONENTS = (ROUTE, EMA_SCAN, RATIO_LOSS, SELECT, SPREAD)
