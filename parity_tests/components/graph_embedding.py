"""Declarations of distances and losses of embedded graphs."""

import numpy as np
import torch

import numpy_ref.hyperbolic.graph_embedding as numpy_embedding
import torch_impl.hyperbolic.graph_embedding as torch_embedding
from numpy_ref.hyperbolic.graphs import graph
from parity_tests import curved
from parity_tests.components.tangent import DTYPES
from parity_tests.harness.declaration import Bug, Component

GRAPHS = {name: graph(name) for name in ("tree-2-2", "tree-3-1", "tree-1-4", "grid-2-3", "cycle-5", "cycle-3")}


def draw_points(source, count, geometry):
    """Vectors, or points of the ball; some at the same place, one at the origin."""
    v = curved.vectors(source, (count, source.size(9, block=4)), 1.0, ("one", "one", "close to the origin"))
    if source.flag():
        v[0] = 0
        source.event("one at the origin")
    if count > 2 and source.flag():
        v[-1] = v[-2]
        source.event("two at one place")
    source.event(geometry)
    return curved.in_ball(v, 1.0) if geometry == "poincare" else v


def draw_pairs(source):
    geometry = source.choice(*numpy_embedding.GEOMETRIES)
    x, count = draw_points(source, source.size(9, block=4), geometry), source.size(7, block=4)
    y = source.rng.permutation(np.concatenate((x, -0.5 * x)))[:count]
    return source.case({"x": x, "y": y}, geometry=geometry)


PAIR_DISTANCES = Component(
    name="pair_distances",
    numpy=numpy_embedding.pair_distances,
    torch=torch_embedding.pair_distances,
    draw=draw_pairs,
    differentiable=("x", "y"),
    dtypes=DTYPES,
    elementwise=("value",),
    events=("euclidean", "lorentz", "poincare", "two at one place", "one at the origin", "close to the origin"),
    compiles=False,
    bugs=(
        Bug("squared", "numpy", "d = np.sqrt(np.where(apart, square, 1.0))", "d = np.where(apart, square, 1.0)"),
        Bug("both are pulled the same way", "numpy", "-np.sum(pull, axis=0)", "np.sum(pull, axis=0)"),
        Bug("directions too long", "numpy", "dd / d, 0.0)", "dd, 0.0)"),
        Bug("ball for hyperboloid", "numpy", '{"lorentz": tangent, "poincare": poincare}', '{"lorentz": poincare, "poincare": tangent}'),
        Bug("by products", "torch", '"donot_use_mm_for_euclid_dist"', '"use_mm_for_euclid_dist"', "_euclidean", needs=("two at one place",)),
        Bug("angle counted twice", "torch", "m.sinh().mT / 4", "m.sinh().mT / 2"),
        Bug("one gap for both", "torch", "(_gap(x), _gap(y).mT)", "(_gap(x), 1)"),
        Bug("radii's sum", "torch", "((n - m.mT) / 2)", "((n + m.mT) / 2)"),
    ),
)  # fmt: skip


def draw_graph(source):
    name = source.choice(*GRAPHS)
    source.event(name)
    known = GRAPHS[name]
    if source.flag():
        rows = source.rng.permutation(len(known))[: source.integer(1, len(known))]
        source.event("some rows")
        return known, rows, known.hops(rows)
    return known, None, known.all_hops()


def draw_lengths(source):
    _, rows, hops = draw_graph(source)
    reach = source.choice(1.0, 1.0, 30.0, 1e-3)
    lengths = hops * source.rng.uniform(0.1, 2.0, hops.shape) * reach
    source.event("far apart", reach > 1)
    if source.flag():
        lengths += (hops == 0) * 0.5  # a node's distance from itself is not looked at
        source.event("diagonal")
    return source.case({"distances": lengths, "hops": hops})


DISTANCE_LOSS = Component(
    name="distance_loss",
    numpy=numpy_embedding.distance_loss,
    torch=torch_embedding.distance_loss,
    draw=draw_lengths,
    differentiable=("distances",),
    dtypes=DTYPES,
    events=("some rows", "far apart", "diagonal"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("not relative", "torch", " / hops.clamp(min=1)", ""),
        Bug("a node's distance from itself", "torch", " * others).sum()", ").sum()", needs=("diagonal",)),
        Bug("mean over all entries", "torch", "others.sum()", "others.numel()"),
        Bug("squared", "torch", "(distances - hops).abs()", "(distances - hops).square()"),
        Bug("gradient not relative", "numpy", "(whole * count)", "count"),
        Bug("sign of the distance", "numpy", "sign = np.sign(off.real)", "sign = np.sign(distances.real)"),
    ),
)  # fmt: skip

RANKING_LOSS = Component(
    name="ranking_loss",
    numpy=numpy_embedding.ranking_loss,
    torch=torch_embedding.ranking_loss,
    draw=draw_lengths,
    differentiable=("distances",),
    dtypes=DTYPES,
    events=("some rows", "far apart", "tree-3-1", "cycle-3", "tree-2-2"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("the nearest is likeliest to be taken", "torch", "-distances, -_NEVER", "distances, -_NEVER"),
        Bug("all others are negatives", "torch", "hops > 1", "hops > 0"),
        Bug("without the neighbour itself", "torch", "F.softplus((others + distances)[hops == 1], threshold=_LINEAR)", "(others + distances)[hops == 1].clamp(min=-30)"),
        Bug("a line from 20 on", "torch", ", threshold=_LINEAR", "", dtype="float64", needs=("far apart",)),
        Bug("no largest score", "numpy", "weights = np.exp(scores - top)", "weights = np.exp(scores)"),
        Bug("negatives have no gradient", "numpy", "return p - q * np.sum(p, axis=-1, keepdims=True)", "return p"),
        Bug("negatives of a single neighbour", "numpy", "q * np.sum(p, axis=-1, keepdims=True)", "q * np.max(p, axis=-1, keepdims=True)"),
    ),
)  # fmt: skip


def draw_embedding(source):
    known, rows, hops = draw_graph(source)
    geometry, loss = source.choice(*numpy_embedding.GEOMETRIES), source.choice(*numpy_embedding.LOSSES)
    points = draw_points(source, len(known), geometry)
    source.event(loss)
    log_scale = np.array(source.rng.uniform(-1, 1))
    return source.case({"points": points, "log_scale": log_scale, "hops": hops}, rows=rows, geometry=geometry, loss=loss)


def with_rows(function, arguments):
    """Numbers of nodes as an index of either side."""
    rows = arguments["rows"]
    if rows is not None and torch.is_tensor(arguments["points"]):
        rows = torch.from_numpy(rows)
    return function(**arguments | {"rows": rows})


EMBEDDING_LOSS = Component(
    name="embedding_loss",
    numpy=numpy_embedding.embedding_loss,
    torch=torch_embedding.embedding_loss,
    draw=draw_embedding,
    differentiable=("points", "log_scale"),
    dtypes=DTYPES,
    call=with_rows,
    events=("some rows", "euclidean", "lorentz", "poincare", "distance", "ranking", "two at one place"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("scale added", "torch", "* log_scale.exp()", "+ log_scale.exp()"),
        Bug("scale itself for its logarithm", "torch", "log_scale.exp()", "log_scale"),
        Bug("the first rows", "torch", "points[rows]", "points[: len(rows)]", needs=("some rows",)),
        Bug("one loss for both", "torch", '"ranking": ranking_loss', '"ranking": distance_loss'),
        Bug("columns alone", "numpy", "np.add.at(dpoints, rows, dx)", "pass", needs=("some rows",)),
        Bug("rows alone", "numpy", "dpoints = dpoints + dx", "dpoints = dx"),
        Bug("gradient without the scale", "numpy", "lengths_vjp(scale * dd)", "lengths_vjp(dd)"),
        Bug("scale's gradient without the scale", "numpy", "np.sum(dd * lengths) * scale", "np.sum(dd * lengths)"),
    ),
)  # fmt: skip

COMPONENTS = (PAIR_DISTANCES, DISTANCE_LOSS, RANKING_LOSS, EMBEDDING_LOSS)
