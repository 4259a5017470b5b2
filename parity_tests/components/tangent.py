"""Declarations of the radial functions, and of distances from tangent vectors."""

import numpy as np

import numpy_ref.hyperbolic.radial as numpy_radial
import numpy_ref.hyperbolic.tangent as numpy_tangent
import torch_impl.hyperbolic.radial as torch_radial
import torch_impl.hyperbolic.tangent as torch_tangent
from parity_tests import curved
from parity_tests.harness.declaration import Bug, Case, Component

DTYPES = "float64", "float32"


def draw_squares(most):
    """t from 0 to ``most``, in all sizes."""

    def draw(source):
        shape = (*source.leading(), source.size(17))
        regime = source.choice("ordinary", "small", "next to nothing", "large")
        scale = {"ordinary": min(most, 1.0), "small": 1e-3, "next to nothing": 1e-12, "large": most}[regime]
        t = source.rng.uniform(0.01, 1.0, shape) * scale * (source.rng.random(shape) < 0.8)
        source.event(regime)
        source.event("zero", bool((t == 0).any()))
        return source.case({"t": t})

    return draw


def radial(name, most, bugs):
    return Component(
        name=name,
        numpy=getattr(numpy_radial, name),
        torch=getattr(torch_radial, name),
        draw=draw_squares(most),
        differentiable=("t",),
        dtypes=DTYPES,
        elementwise=True,
        events=("ordinary", "small", "next to nothing", "large", "zero"),
        compiles=False,
        weight=2,
        bugs=bugs,
    )


SINHC = radial("sinhc", 60.0, (
    Bug("slope along r", "torch", ".div_(t).mul_(0.5)", ".div_(t.sqrt())", "sinhc_slope"),
    Bug("slope cancels near 0", "torch", "torch.where(t < 1, series.add_(_SLOPE[0]), (cosh - y).div_(t).mul_(0.5))", "(cosh - y).div_(t).mul_(0.5)", "sinhc_slope"),
    Bug("too few terms", "torch", "9 if t.dtype == torch.float64 else 5", "3", "sinhc_slope"),
    Bug("0 / 0 at the origin", "torch", "t.clamp(min=_LEAST)", "t.clone()", "_Sinhc"),
    Bug("coefficients without their factor", "numpy", "slope = slope * small + series", "slope = 0.5 * slope * small + series", "_sinhc"),
    Bug("sine", "numpy", "np.sinh(r) / r", "np.sin(r) / r", "_sinhc"),
))  # fmt: skip
ASINHC = radial("asinhc", 1e4, (
    Bug("slope of sinhc alone", "torch", ".mul_(square).mul_(y)", "", "asinhc_slope"),
    Bug("acosh's root", "torch", "(1 + t).sqrt_()", "(1 - t).abs().sqrt_()", "asinhc_slope"),
    Bug("slope of the wrong sign", "numpy", "-dy * slope", "dy * slope"),
    Bug("0 / 0 at the origin", "torch", "t.clamp(min=_LEAST)", "t.clone()", "_Asinhc"),
    Bug("slope at t, not at the angle", "torch", "sinhc_slope(square * t, cosh", "sinhc_slope(t, cosh", "asinhc_slope"),
))  # fmt: skip
TANHC = radial("tanhc", 60.0, (
    Bug("tanh squared without the radius", "numpy", "1.0 - large * y * y - y", "1.0 - y * y - y", "_tanhc"),
    Bug("cosh is constant", "numpy", "(s_slope - 0.5 * y * s) / k", "s_slope / k", "_tanhc"),
    Bug("slope cancels near 0", "torch", "near = t < 1", "near = t < 0", "_tanhc_slope"),
    Bug("sinh", "torch", "r.tanh() / r", "r.sinh() / r", "_Tanhc"),
))  # fmt: skip
ATANHC = radial("atanhc", 0.999, (
    Bug("the root of 1 - t forgotten", "torch", "square = t / (1 - t)", "square = t", "_Atanhc"),
    Bug("clamped far inside", "torch", "torch.finfo(t.dtype).eps / 2", "1e-2"),
    Bug("slope of asinh", "torch", "y**3 / (1 - t)", "y**3 / (1 + t).sqrt()", "_Atanhc"),
    Bug("slope without its cube", "numpy", "y**3", "y"),
    Bug("no slope", "numpy", "-dy * slope", "0 * dy * slope"),
))  # fmt: skip


def draw_arc(source):
    case, squared = draw_squares(1e4)(source), source.flag()
    source.event("squared", squared)
    source.event("equal points", not squared and "zero" in case.events)
    return source.case({"h": case.arrays["t"]}, squared=squared)


ARC = Component(
    name="arc",
    numpy=numpy_radial.arc,
    torch=torch_radial.arc,
    draw=draw_arc,
    differentiable=("h",),
    dtypes=DTYPES,
    elementwise=True,
    events=("ordinary", "small", "next to nothing", "large", "equal points", "squared"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("acosh of cosh", "numpy", "2.0 * np.arcsinh(np.sqrt(safe))", "np.arccosh(1.0 + 2.0 * safe)"),
        Bug("half the angle", "numpy", "2.0 * np.arcsinh", "1.0 * np.arcsinh"),
        Bug("slope without 1 + h", "numpy", " * np.sqrt(1.0 + safe)", ""),
        Bug("endless slope at 0", "torch", "torch.where(h > 0, dy / (root * (1 + h).sqrt()), 0)", "dy / (root * (1 + h).sqrt())", "_Arc"),
        Bug("slope of the square root alone", "torch", "(root * (1 + h).sqrt())", "root", "_Arc"),
        Bug("not squared", "torch", ".square()", ""),
    ),
)  # fmt: skip


def draw_pair(source):
    c = curved.curvature(source)
    shape = curved.shape(source)
    v = curved.vectors(source, shape, c)
    w = curved.neighbours(source, v, c)
    source.event("both at the origin", bool(((v == 0) & (w == 0)).all(-1).any()))
    source.event("one at the origin", bool(((v == 0).all(-1) & (w != 0).any(-1)).any()))
    pairs = len(shape) > 1 and source.flag()
    source.event("all pairs", pairs)
    if pairs:
        v, w = v.reshape(-1, 1, shape[-1]), w.reshape(1, -1, shape[-1])
    return {"v": v, "w": w, "c": c}


def draw_haversine(source):
    return source.case(draw_pair(source))


def fixed(rng):
    return Case({"v": rng.standard_normal((7, 1, 5)), "w": rng.standard_normal((1, 6, 5)), "c": np.array(0.7)})


PAIR_EVENTS = (
    "other curvature", "nearly flat", "far", "close to the origin", "one at the origin", "near", "equal",
    "along the radius", "all pairs",
)  # fmt: skip
HAVERSINE = Component(
    name="haversine",
    numpy=numpy_tangent.haversine,
    torch=torch_tangent.haversine,
    draw=draw_haversine,
    differentiable=("v", "w", "c"),
    dtypes=DTYPES,
    elementwise=("value",),
    events=PAIR_EVENTS,
    compiles=False,
    bugs=(
        Bug("inner product instead of the directions' difference", "numpy", "square = np.sum(e * e, axis=-1, keepdims=True)", "square = 2.0 - 2.0 * np.sum(u * z, axis=-1, keepdims=True)"),
        Bug("angle counted twice", "numpy", "0.25 * product", "0.5 * product"),
        Bug("curvature for its root", "numpy", "c**0.5", "c * 1.0"),
        Bug("second radius moves as the first", "numpy", "* share - half)", "* share + half)"),
        Bug("gradient along the radius kept", "numpy", "(e - _dot(e, u) * u)", "e"),
        Bug("curvature's gradient of one radius", "numpy", "np.sum(dr * r + dq * q)", "np.sum(dr * r + 0 * dq)"),
        Bug("sinh(q) of both", "torch", "r.sinh() * q.sinh()", "q.sinh() * q.sinh()"),
        Bug("no gradient at the origin", "torch", "(v / n - w / m)", "(v / n * (n > 1e-9) - w / m)"),
        Bug("cosh difference", "torch", "((r - q) / 2).sinh().square()", "((r - q).cosh() - 1) / 2", needs=("near",)),
    ),
)  # fmt: skip


def draw_distance(source):
    squared = source.flag()
    source.event("squared", squared)
    return source.case(draw_pair(source), squared=squared)


TANGENT_DISTANCE = Component(
    name="tangent.distance",
    numpy=numpy_tangent.distance,
    torch=torch_tangent.distance,
    draw=draw_distance,
    differentiable=("v", "w", "c"),
    dtypes=DTYPES,
    elementwise=("value",),
    events=(*PAIR_EVENTS, "squared"),
    shapes={"small": fixed},
    bugs=(
        Bug("not divided by sqrt(c)", "numpy", "d = theta * c**power", "d = theta + 0 * c**power"),
        Bug("divided by c once more", "numpy", "power = -1.0 if squared else -0.5", "power = -1.0"),
        Bug("curvature's gradient by haversine alone", "numpy", "dc + power * np.sum(dy * d) / c", "dc"),
        Bug("squared in value alone", "numpy", "arc(h, squared)", "(lambda t, f: (t * t, f) if squared else (t, f))(*arc(h))"),
        Bug("always the distance", "torch", "(v, w, c), squared)", "(v, w, c))"),
        Bug("radius 1 / c", "torch", "else c**0.5)", "else c)"),
    ),
)  # fmt: skip

COMPONENTS = (SINHC, ASINHC, TANHC, ATANHC, ARC, HAVERSINE, TANGENT_DISTANCE)
