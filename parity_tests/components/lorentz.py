"""Declarations of the Lorentz model."""

import numpy_ref.hyperbolic.lorentz as numpy_lorentz
import torch_impl.hyperbolic.lorentz as torch_lorentz
from parity_tests import curved
from parity_tests.components.tangent import DTYPES
from parity_tests.harness.declaration import Bug, Component

FEW = "one", "one", "close to the origin", "origin among them"


def declaration(name, draw, differentiable, events, bugs, **more):
    return Component(
        name=f"lorentz.{name}",
        numpy=getattr(numpy_lorentz, name),
        torch=getattr(torch_lorentz, name),
        draw=draw,
        differentiable=differentiable,
        dtypes=DTYPES,
        events=events,
        compiles=False,
        weight=2,
        bugs=bugs,
        **more,
    )


def draw_space(source):
    c = curved.curvature(source)
    return source.case({"space": curved.vectors(source, curved.shape(source), c), "c": c})


def draw_one(source):
    c = curved.curvature(source)
    return source.case({"x": curved.on_hyperboloid(curved.vectors(source, curved.shape(source), c), c), "c": c})


def draw_off(source):
    """Points that have left the hyperboloid."""
    c, shape = curved.curvature(source), curved.shape(source)
    return source.case({"x": source.rng.standard_normal((*shape[:-1], shape[-1] + 1)), "c": c})


def draw_vector(source):
    c = curved.curvature(source)
    return source.case({"v": curved.vectors(source, curved.shape(source), c), "c": c})


def draw_two(source):
    shape = curved.shape(source)
    x, y = (source.array(name, (*shape[:-1], shape[-1] + 1), ("one", "sixteen", "zero")) for name in "xy")
    return source.case({"x": x, "y": y})


def pair(source, regimes=curved.REGIMES, kinds=("anywhere", "anywhere", "near", "equal", "along the radius")):
    c = curved.curvature(source)
    v = curved.vectors(source, curved.shape(source), c, regimes)
    w = curved.neighbours(source, v, c, kinds)
    return curved.on_hyperboloid(v, c), curved.on_hyperboloid(w, c), c


def draw_pair(source):
    x, y, c = pair(source)
    return source.case({"x": x, "y": y, "c": c})


def draw_distance(source):
    x, y, c = pair(source)
    squared = source.flag()
    source.event("squared", squared)
    return source.case({"x": x, "y": y, "c": c}, squared=squared)


def draw_step(source):
    c = curved.curvature(source)
    x = curved.on_hyperboloid(curved.vectors(source, curved.shape(source), c), c)
    return source.case({"x": x, "v": curved.tangent_at(source, x, c), "c": c})


def draw_carried(source):
    case = draw_step(source)
    factor = source.rng.choice((-1.0, -0.3, 0.0, 0.1, 1.0), (*case.arrays["x"].shape[:-1], 1))
    return source.case(case.arrays | {"factor": factor})


def draw_transport(source):
    x, y, c = pair(source)
    return source.case({"x": x, "y": y, "v": curved.tangent_at(source, x, c), "c": c})


def draw_gradient(source):
    c = curved.curvature(source)
    x = curved.on_hyperboloid(curved.vectors(source, curved.shape(source), c), c)
    return source.case({"x": x, "grad": source.array("grad", x.shape, ("one", "small", "zero")), "c": c})


PLACES = "other curvature", "nearly flat", "far", "close to the origin", "origin among them"
PAIRS = (*PLACES, "near", "equal", "along the radius")

LIFT = declaration("lift", draw_space, ("space", "c"), PLACES, (
    Bug("radius 1 / c", "numpy", "1.0 / c + _dot", "1.0 / c**2 + _dot"),
    Bug("time's gradient lost", "numpy", "dx[..., 1:] + share * space", "dx[..., 1:] + 0 * share"),
    Bug("curvature's gradient of the wrong sign", "numpy", "-np.sum(share)", "np.sum(share)"),
    Bug("time last", "torch", "(_time(space, c), space)", "(space, _time(space, c))"),
    Bug("time at most c", "torch", "+ 1 / c", "+ c", "_time"),
))  # fmt: skip
PROJECT = declaration("project", draw_off, ("x", "c"), ("other curvature", "nearly flat"), (
    Bug("time kept", "numpy", "return y, vjp", "return y * 0 + x, vjp"),
    Bug("time has a gradient", "numpy", "_with_time(0.0, dspace)", "_with_time(dy[..., :1], dspace)"),
    Bug("scaled instead", "torch", "lift(x[..., 1:], c)", "x * (1 / c / (x[..., :1].square() - x[..., 1:].square().sum(-1, keepdim=True)).abs()).sqrt()"),
    Bug("curvature 1", "torch", "lift(x[..., 1:], c)", "lift(x[..., 1:], c * 0 + 1)"),
))  # fmt: skip
INNER = declaration("inner", draw_two, ("x", "y"), (), (
    Bug("Euclid's", "numpy", "_flipped(x) * y", "x * y"),
    Bug("Euclid's gradient", "numpy", "dz[..., None] * _flipped(y)", "dz[..., None] * y"),
    Bug("plus and minus exchanged", "torch", "product[..., 1:].sum(-1) - product[..., 0]", "product[..., 0] - product[..., 1:].sum(-1)"),
    Bug("last coordinate as time", "torch", "product[..., 1:].sum(-1) - product[..., 0]", "product[..., :-1].sum(-1) - product[..., -1]"),
))  # fmt: skip
EXP_MAP_ORIGIN = declaration("exp_map_origin", draw_vector, ("v", "c"), PLACES, (
    Bug("stretch without curvature", "numpy", "sinhc(c * square)", "sinhc(square)"),
    Bug("stretch is constant", "numpy", "dt = stretch_vjp(_dot(dspace, v))", "dt = 0 * stretch_vjp(_dot(dspace, v))"),
    Bug("curvature's gradient of the lift alone", "numpy", "dc + np.sum(dt * square)", "dc"),
    Bug("not stretched", "torch", "sinhc(c * _square(v)) * v", "v"),
    Bug("sinh of the length itself", "torch", "c * _square(v)", "_square(v)"),
    Bug("NaN at the origin", "torch", "sinhc(c * _square(v)) * v", "(c**0.5 * v.norm(dim=-1, keepdim=True)).sinh() * v / (c**0.5 * v.norm(dim=-1, keepdim=True))"),
))  # fmt: skip
LOG_MAP_ORIGIN = declaration("log_map_origin", draw_one, ("x", "c"), PLACES, (
    Bug("stretch without curvature", "numpy", "asinhc(c * square)", "asinhc(square)"),
    Bug("half the stretch's gradient", "numpy", "2.0 * c * dt", "c * dt"),
    Bug("acosh of the time", "torch", "asinhc(c * _square(space))", "(c**0.5 * x[..., :1]).clamp(min=1 + 1e-8).acosh() / (c * _square(space)).sqrt()"),
    Bug("not divided by the radius", "torch", "asinhc(c * _square(space)) * space", "(c * _square(space)).sqrt().asinh() * space"),
    Bug("time left in", "torch", "space = x[..., 1:]", "space = x[..., :-1]"),
))  # fmt: skip
DISTANCE = declaration("distance", draw_distance, ("x", "y", "c"), (*PAIRS, "squared"), (
    Bug("gradient of one logarithm's curvature lost", "numpy", "dc + dc_x + dc_y", "dc + dc_x"),
    Bug("gradients exchanged", "numpy", "return dx, dy,", "return dy, dx,"),
    Bug("acosh of the inner product", "torch", "_Distance.apply(x, y, c)", "(-c * inner(x, y)).clamp(min=1 + 1e-8).acosh() / c**0.5"),
    Bug("never squared", "torch", "if squared:", "if False:"),
    Bug("not divided by the root of the curvature", "torch", "log1p_().div_(c**0.5)", "log1p_()", "_Distance"),
    Bug("angle of h itself", "torch", "h.sqrt(), h.add_(1).sqrt_()", "h.clone(), h.add_(1).sqrt_()", "_Distance"),
    Bug("curvature's gradient by the angle alone", "torch", "dc - (dd * distance).sum() / (2 * ctx.c)", "dc", "_Distance"),
    Bug("radii's difference cancels twice", "torch", "turn.addcdiv((n - m).square_(), (t * s).addcmul_(n, m).add_(1 / c), value=0.5)", "turn + (c * (t * s - n * m) - 1) / 2", "_apart", needs=("far",)),
    Bug("second gradient of the wrong sign", "torch", "(stray / m).sub_(rate / s)", "(stray / m).add_(rate / s)", "_pulls"),
    Bug("curvature's gradient of the angle alone", "torch", " + rate.square() / (4 * c * t * s)", "", "_curvature_pull"),
    Bug("angle counted twice", "torch", "mul_(c / 4)", "mul_(c / 2)", "_apart"),
    Bug("directions at the wrong length", "torch", "torch.addcmul(x, y, ratio, value=-1)", "torch.addcmul(x, y, 1 / ratio, value=-1)", "_apart"),
), elementwise=("value",))  # fmt: skip
EXP_MAP = declaration("exp_map", draw_step, ("x", "v", "c"), (*PLACES, "no step"), (
    Bug("Euclidean length", "numpy", "_tangent_square(xs, vs, time2, c)", "_dot(vs, vs) + 0 * time2"),
    Bug("retraction", "numpy", "xs + rise * xs + stretch * vs", "xs + 0 * rise * xs + 0 * stretch * vs + vs"),
    Bug("rise is constant", "numpy", " + 0.5 * stretch * _dot(ds, xs)", ""),
    Bug("length does not depend on the point", "numpy", "+ rise * ds - k * across", "+ rise * ds"),
    Bug("length in the difference of two large numbers", "torch", "(square * c).addcmul_(k, k)", "c * (_square(v[..., 1:]) - k * k * (_square(x[..., 1:]) + 1 / c))", "_ExpMap", needs=("far",)),
    Bug("curvature forgotten in the radius", "torch", "(square * c).addcmul_", "(square * 1).addcmul_", "_ExpMap"),
    Bug("rise of half the size", "torch", ".sqrt_().add_(1)", ".sqrt_().mul_(2)", "_rise"),
    Bug("gradient of the tangent's slant lost", "torch", ".addcmul_(across, k, value=-1)", "", "_ExpMap"),
    Bug("curvature's gradient of the lift alone", "torch", "(dt * square).sum() - share", "-share", "_ExpMap"),
))  # fmt: skip
LOG_MAP = declaration("log_map", draw_pair, ("x", "y", "c"), PAIRS, (
    Bug("chord for the arc", "numpy", "vs = ratio / root * way", "vs = way + 0 * ratio"),
    Bug("not tangent", "numpy", "way = ys - xs - 2.0 * h * xs", "way = ys - xs"),
    Bug("direction's dependence on h lost", "numpy", " - 2.0 * _dot(dway, xs)", ""),
    Bug("factor's derivative without its root", "numpy", "- df * ratio / (2.0 * root * (1.0 + h))", "- 0 * df"),
    Bug("0 / 0 for equal points", "torch", "asinhc(h)", "h.sqrt().asinh() / h.sqrt()", "_LogMap"),
    Bug("from y to x", "torch", "(y - x)", "(x - y)", "_LogMap"),
    Bug("direction does not depend on h", "torch", ".addcmul_(_dot(dw, start), factor, value=-2)", "", "_LogMap"),
    Bug("gradient of the time lost", "torch", ".addcmul_(way, share)", "", "_LogMap"),
))  # fmt: skip
PARALLEL_TRANSPORT = declaration("parallel_transport", draw_transport, ("x", "y", "v", "c"), (*PAIRS, "no step"), (
    Bug("projected to the tangent space instead", "numpy", "moved = vs + k * s", "moved = vs + c * i * ys + 0 * k"),
    Bug("denominator without the distance", "numpy", "k = c * i / (2.0 * (1.0 + h))", "k = c * i / 2.0"),
    Bug("the points' sum is constant", "numpy", "ds - de + dxs + dxs_time", "dxs + dxs_time - de"),
    Bug("denominator is constant", "numpy", "h_vjp(-dk * k / (1.0 + h))", "h_vjp(0 * dk)"),
    Bug("back instead of forth", "torch", "_dot(end - start, way", "_dot(start - end, way"),
    Bug("time of the wrong point", "torch", "_tangent(moved, end, c)", "_tangent(moved, start, c)"),
    Bug("curvature forgotten", "torch", "way + c * product", "way + product"),
))  # fmt: skip
RIEMANNIAN_GRADIENT = declaration("riemannian_gradient", draw_gradient, (), PLACES, (
    Bug("the metric's sign forgotten", "numpy", "rise = x[..., :1] * grad[..., :1] + ", "rise = -x[..., :1] * grad[..., :1] + "),
    Bug("not projected", "numpy", "grad[..., 1:] + c * rise * x[..., 1:]", "grad[..., 1:]"),
    Bug("curvature forgotten", "torch", "c * _dot(x, grad)", "_dot(x, grad)"),
    Bug("projected the wrong way", "torch", "c * _dot(x, grad)", "-c * _dot(x, grad)"),
))  # fmt: skip
EXP_AND_CARRY = declaration("exp_and_carry", draw_carried, (), (*PLACES, "no step"), (
    Bug("not carried", "numpy", "parallel_transport(x, y, v, c)[0]", "v"),
    Bug("carried from y to x", "numpy", "(x, y, v, c)[0]", "(y, x, v, c)[0]"),
    Bug("lengths without the factor", "torch", "t = square * factor * factor", "t = square * 1"),
    Bug("backwards", "torch", "sinhc(t).mul_(factor)", "sinhc(t).mul_(factor.abs())"),
    Bug("carried without the turn", "torch", ".addcmul_(stretch * square, space)", ""),
    Bug("time of the old point", "torch", "_tangent(carried, moved, c)", "_tangent(carried, space, c)"),
))  # fmt: skip
SQUARED_LENGTH = declaration("squared_length", draw_step, (), (*PLACES, "no step"), (
    Bug("Euclid's", "numpy", "_tangent_square(xs, v[..., 1:], 1.0 / c + _dot(xs, xs), c)", "_dot(v, v)"),
    Bug("space alone", "torch", "value=-1", "value=0", "_across"),
    Bug("curvature forgotten", "torch", "k * k / c", "k * k"),
    Bug("radial part twice", "torch", "value=-1", "value=1", "_across"),
))  # fmt: skip

COMPONENTS = (
    LIFT, PROJECT, INNER, EXP_MAP_ORIGIN, LOG_MAP_ORIGIN, DISTANCE, EXP_MAP, LOG_MAP, PARALLEL_TRANSPORT,
    EXP_AND_CARRY, SQUARED_LENGTH, RIEMANNIAN_GRADIENT,
)  # fmt: skip
