"""Declarations of the layers on the hyperboloid."""

import numpy as np

import numpy_ref.hyperbolic.layers as numpy_layers
import torch_impl.hyperbolic.layers as torch_layers
from parity_tests import curved
from parity_tests.components.attention import ATTENTION
from parity_tests.components.tangent import DTYPES
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import attention_mask


def space(source, shape, c, regimes=("one", "one", "close to the origin", "origin among them")):
    """Space coordinates of points."""
    return curved.on_hyperboloid(curved.vectors(source, shape, c, regimes), c)[..., 1:]


def draw_embedding(source):
    c, shape = curved.curvature(source), source.leading()
    vocabulary, width = source.size(17), source.size(9, block=4)
    arrays = {"tokens": source.tokens(shape, vocabulary), "weight": curved.vectors(source, (vocabulary, width), c)}
    return source.case(arrays | {"c": c})


HYPERBOLIC_EMBEDDING = Component(
    name="hyperbolic_embedding",
    numpy=numpy_layers.hyperbolic_embedding,
    torch=torch_layers.hyperbolic_embedding,
    draw=draw_embedding,
    differentiable=("weight", "c"),
    dtypes=DTYPES,
    events=("other curvature", "repeated token", "last token", "far", "origin among them"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("the table's rows as they are", "torch", "exp_map_origin(v.float() if v.itemsize == 2 else v, c)[..., 1:].to(v.dtype)", "v"),
        Bug("time instead of the last coordinate", "torch", "[..., 1:]", "[..., :-1]"),
        Bug("the ball's curvature", "torch", "else v, c)", "else v, 4 * c)"),
        Bug("curvature has no gradient", "numpy", "return rows_vjp(dv), dc", "return rows_vjp(dv), 0 * dc"),
        Bug("gradient of the rows as they are", "numpy", "return rows_vjp(dv), dc", "return rows_vjp(dx), dc"),
    ),
)  # fmt: skip


def draw_linear(source):
    c, lead = curved.curvature(source), source.leading()
    inputs, outputs, bias = source.size(9, block=4), source.size(9, block=4), source.flag()
    source.event("no bias", not bias)
    arrays = {
        "x": space(source, (*lead, inputs), c, curved.REGIMES),
        "weight": source.rng.standard_normal((outputs, 1 + inputs)) / np.sqrt(1 + inputs),
        "bias": source.weight("bias", (outputs,)) if bias else None,
    }
    return source.case(arrays | {"c": c})


LORENTZ_LINEAR = Component(
    name="lorentz_linear",
    numpy=numpy_layers.lorentz_linear,
    torch=torch_layers.lorentz_linear,
    draw=draw_linear,
    differentiable=("x", "weight", "bias", "c"),
    dtypes=DTYPES,
    events=("other curvature", "nearly flat", "no bias", "far", "origin among them"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("time 1", "torch", "lift(x, c)", "lift(x, c * 0 + 1)"),
        Bug("bias forgotten", "torch", "weight, bias)", "weight)"),
        Bug("time last", "torch", "lift(x, c)", "lift(x, c).roll(-1, -1)"),
        Bug("time's gradient lost", "numpy", "dx, dc = lift_vjp(dpoint)", "dx, dc = dpoint[..., 1:].copy(), lift_vjp(dpoint)[1]"),
        Bug("curvature has no gradient", "numpy", "dbias, dc\n", "dbias, 0 * dc\n"),
    ),
)  # fmt: skip


def draw_attention(source):
    c = np.array(source.choice(1.0, 1.0, 0.25, 4.0))
    source.event("other curvature", c != 1.0)
    lead = source.leading(1)
    group, shared = source.choice(1, 2), source.integer(1, 2)
    queries, keys, width = source.size(9, block=4), source.size(9, block=4), source.size(9, block=4)
    kind, causal = source.choice("none", "none", "random", "empty row"), source.flag() and queries == keys
    query = space(source, (*lead, group * shared, queries, width), c)
    key, value = (space(source, (*lead, shared, keys, width), c) for _ in range(2))
    if source.flag():
        value = np.broadcast_to(value[..., :1, :], value.shape).copy()
        source.event("one value")
    mask = attention_mask(source.rng, kind, *(lead or (1,)), queries, keys)
    mask = mask if lead or mask is None else mask[0]
    source.event("grouped", group > 1)
    source.event("causal", causal)
    source.event(kind)
    arrays = {"query": query, "key": key, "value": value, "c": c, "mask": mask}
    return source.case(arrays, causal=causal, scale=source.choice(None, 0.5))


def fixed(rng):
    return Case({name: rng.standard_normal((2, 3, 5, 7)) for name in ("query", "key", "value")}, {"c": 0.7, "causal": True})


LORENTZ_ATTENTION = Component(
    name="lorentz_attention",
    numpy=numpy_layers.lorentz_attention,
    torch=torch_layers.lorentz_attention,
    draw=draw_attention,
    differentiable=("query", "key", "value", "c"),
    dtypes=DTYPES,
    kernels=(ATTENTION,),
    events=("other curvature", "one value", "grouped", "causal", "random", "empty row", "close to the origin", "origin among them"),
    compiles=False,
    weight=3,
    bugs=(
        Bug("Euclid's products", "torch", "-q0", "q0", "lift_heads"),
        Bug("mean for the centroid", "torch", "space / length", "space", "midpoints"),
        Bug("scores halved", "torch", "2 * torch.cat((-q0", "1 * torch.cat((-q0", "lift_heads"),
        Bug("curvature 1 in the times", "torch", "square + 1 / c", "square + 1", "lift_heads"),
        Bug("never below 1", "torch", "square = c * (time", "square = (time", "midpoints"),
        Bug("not causal", "torch", "mask, causal, scale)", "mask, False, scale)", needs=("causal",)),
        Bug("scale ignored", "torch", "mask, causal, scale)", "mask, causal)"),
        Bug("norm is constant", "numpy", "b = c * along / length**3", "b = 0 * along", "midpoints"),
        Bug("query's time with the wrong sign in the backward", "numpy", "q_vjp(flipped(dq))", "q_vjp(2.0 * dq)", "lift_heads"),
        Bug("curvature's gradient of the heads alone", "numpy", "dc + dc_heads", "dc_heads"),
    ),
)  # fmt: skip


def draw_heads(source):
    case = draw_attention(source)
    return source.case({name: case.arrays[name] for name in ("query", "key", "value", "c")})


def draw_sums(source):
    """Weighted sums of points, of one point, of none."""
    c, lead = curved.curvature(source), source.leading()
    points, width = source.choice(1, 2, 5), source.size(9, block=4)
    x = curved.on_hyperboloid(curved.vectors(source, (*lead, points, width), c), c)
    weights = source.rng.random((*lead, points, 1))
    sums = (x * weights / weights.sum(-2, keepdims=True)).sum(-2)
    sums = np.where(source.rng.random((*lead, 1)) < 0.2, 0.0, sums)
    # One point's own norm is decided by rounding: a hair inside, where there is nothing to decide.
    sums[..., :1] *= 1 - 1e-3 * (points == 1)
    source.event("nothing seen", bool((sums == 0).all(-1).any()))
    source.event("one point", points == 1)
    source.event("spread", points > 1)
    return source.case({"sums": sums, "c": c})


MIDPOINTS = Component(
    name="midpoints",
    numpy=numpy_layers.midpoints,
    torch=torch_layers.midpoints,
    draw=draw_sums,
    differentiable=("sums", "c"),
    dtypes=DTYPES,
    events=("nothing seen", "one point", "spread", "other curvature"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("mean", "torch", "space / length", "space + 0 * length"),
        Bug("not bounded", "torch", "torch.where(square > 1, square, 1).sqrt()", "square.abs().sqrt()"),
        Bug("Euclid's norm", "torch", "time.square() - space", "time.square() + space"),
        Bug("gradient through the bound", "numpy", "np.where(spread, np.sum(dy * space, axis=-1, keepdims=True), 0.0)", "np.sum(dy * space, axis=-1, keepdims=True)"),
        Bug("time's sign", "numpy", "(-b * time,", "(b * time,"),
        Bug("curvature has no gradient", "numpy", "-np.sum(along * square", "-0 * np.sum(along * square"),
    ),
)  # fmt: skip

COMPONENTS = (HYPERBOLIC_EMBEDDING, LORENTZ_LINEAR, LORENTZ_ATTENTION, MIDPOINTS)
