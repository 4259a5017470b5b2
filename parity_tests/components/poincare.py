"""Declarations of the Poincare ball, and of the conversions between the models."""

import numpy as np

import numpy_ref.hyperbolic.conversion as numpy_conversion
import numpy_ref.hyperbolic.poincare as numpy_poincare
import torch_impl.hyperbolic.conversion as torch_conversion
import torch_impl.hyperbolic.poincare as torch_poincare
from parity_tests import curved
from parity_tests.components.lorentz import PAIRS, PLACES
from parity_tests.components.tangent import DTYPES
from parity_tests.harness.declaration import Bug, Component


def declaration(name, draw, differentiable, events, bugs, modules=(numpy_poincare, torch_poincare), **more):
    return Component(
        name=f"poincare.{name}" if modules[0] is numpy_poincare else name,
        numpy=getattr(modules[0], name),
        torch=getattr(modules[1], name),
        draw=draw,
        differentiable=differentiable,
        dtypes=DTYPES,
        events=events,
        compiles=False,
        weight=2,
        bugs=bugs,
        **more,
    )


def draw_points(source, name="x"):
    c = curved.curvature(source)
    return source.case({name: curved.in_ball(curved.vectors(source, curved.shape(source), c), c), "c": c})


def draw_outside(source):
    """Points inside and outside, none so close to the border that rounding decides."""
    c = curved.curvature(source)
    x = curved.in_ball(curved.vectors(source, curved.shape(source), c), c)
    x = np.where(source.rng.random((*x.shape[:-1], 1)) < 0.5, x, 30 * x)
    eps = source.choice(1e-5, 1e-3, 0.2)
    share = np.sqrt(c) * np.linalg.norm(x, axis=-1, keepdims=True) / (1 - eps)
    x = np.where(np.abs(share - 1) < 1e-2, 0.9 * x, x)
    source.event("outside", bool((share > 1.02).any()))
    source.event("inside", bool((share < 0.98).any()))
    return source.case({"x": x, "c": c}, eps=eps)


def draw_vector(source):
    c = curved.curvature(source)
    return source.case({"v": curved.vectors(source, curved.shape(source), c) / 2, "c": c})


def pair(source, opposite=False):
    c = curved.curvature(source)
    v = curved.vectors(source, curved.shape(source), c)
    w = curved.neighbours(source, v, c)
    return curved.in_ball(v, c), curved.in_ball(-w if opposite else w, c), c


def draw_pair(source):
    x, y, c = pair(source)
    return source.case({"x": x, "y": y, "c": c})


def draw_sum(source):
    """Near or equal means opposite here: x (+) -x = 0."""
    x, y, c = pair(source, source.flag())
    return source.case({"x": x, "y": y, "c": c})


def draw_distance(source):
    x, y, c = pair(source)
    squared = source.flag()
    source.event("squared", squared)
    if x.ndim > 1 and source.flag():
        x, y = x.reshape(-1, 1, x.shape[-1]), y.reshape(1, -1, x.shape[-1])
        source.event("all pairs")
    return source.case({"x": x, "y": y, "c": c}, squared=squared)


def draw_haversine(source):
    case = draw_distance(source)
    return source.case(case.arrays)


def tangent(source, x, c):
    """Vectors of length around 1 in the metric of the ball."""
    v = source.rng.standard_normal(x.shape) * (1 - c * (x**2).sum(-1, keepdims=True)) / np.sqrt(c)
    v *= source.rng.choice((0.0, 1e-3, 0.3, 0.5), (*x.shape[:-1], 1))
    source.event("no step", bool((v == 0).all(-1).any()))
    return v


def draw_step(source):
    c = curved.curvature(source)
    x = curved.in_ball(curved.vectors(source, curved.shape(source), c), c)
    return source.case({"x": x, "v": tangent(source, x, c), "c": c})


def draw_carried(source):
    """Some steps lead to the border, or beyond what the format can tell from it."""
    case = draw_step(source)
    factor = source.rng.choice((-1.0, -0.3, 0.0, 0.1, 1.0), (*case.arrays["x"].shape[:-1], 1))
    if source.flag():
        factor = 100 * factor
        source.event("to the border", bool((factor * case.arrays["v"] != 0).any()))
    return source.case(case.arrays | {"factor": factor})


def draw_transport(source):
    x, y, c = pair(source)
    return source.case({"x": x, "y": y, "v": tangent(source, x, c), "c": c})


def draw_scaled(source):
    c = curved.curvature(source)
    regime = ("one", "one", "close to the origin", "origin among them")
    x = curved.in_ball(curved.vectors(source, curved.shape(source), c, regime), c)
    return source.case({"r": np.array(source.choice(0.5, 1.0, -1.5, 0.0)), "x": x, "c": c})


def draw_matrix(source):
    c = curved.curvature(source)
    regime = ("one", "one", "close to the origin", "origin among them")
    shape = curved.shape(source)
    x = curved.in_ball(curved.vectors(source, shape, c, regime), c)
    matrix = source.rng.standard_normal((source.size(9, block=4), shape[-1])) / np.sqrt(shape[-1])
    return source.case({"matrix": matrix, "x": x, "c": c})


def draw_gradient(source):
    c = curved.curvature(source)
    x = curved.in_ball(curved.vectors(source, curved.shape(source), c), c)
    return source.case({"x": x, "grad": source.array("grad", x.shape, ("one", "small", "zero")), "c": c})


def draw_lorentz(source):
    c = curved.curvature(source)
    return source.case({"x": curved.on_hyperboloid(curved.vectors(source, curved.shape(source), c), c), "c": c})


CONFORMAL_FACTOR = declaration("conformal_factor", draw_points, ("x", "c"), PLACES, (
    Bug("curvature forgotten", "torch", "_gap(x, c)", "_gap(x, c * 0 + 1)"),
    Bug("half of it", "torch", "2 / _gap", "1 / _gap"),
    Bug("gradient of 1 / B", "numpy", "-0.5 * dy", "-1.0 * dy"),
    Bug("curvature's gradient lost", "numpy", "return dx, np.asarray(dc)", "return dx, np.asarray(0 * dc)"),
))  # fmt: skip
PROJECT = declaration("project", draw_outside, ("x", "c"), ("outside", "inside", "other curvature", "nearly flat"), (
    Bug("radius 1", "numpy", "(1.0 - eps) * c**-0.5", "(1.0 - eps) + 0 * c"),
    Bug("radial gradient kept", "numpy", "factor * (dy - along * u)", "factor * dy"),
    Bug("radius 1 / c", "torch", "(1 - eps) / c**0.5", "(1 - eps) / c"),
    Bug("eps ignored", "torch", "(1 - eps)", "(1 - 1e-5)"),
    Bug("all on the border", "torch", "torch.where(n > largest, x * (largest / n), x)", "x * (largest / n)"),
))  # fmt: skip
MOBIUS_ADD = declaration("mobius_add", draw_sum, ("x", "y", "c"), PAIRS, (
    Bug("commutative", "torch", "gap * s + q * x", "gap * s + q * s / 2"),
    Bug("Euclid's sum", "torch", "(gap * s + q * x) / (gap * _gap(y, c) + q)", "s + 0 * q * gap"),
    Bug("second gap missing", "numpy", "denominator = bx * by + q", "denominator = bx + 0 * by + q"),
    Bug("denominator is constant", "numpy", "dd = -_dot(dn, z)", "dd = 0 * _dot(dn, z)"),
    Bug("q does not move y", "numpy", "return ds + q * dn + dx, ds + dy,", "return ds + q * dn + dx, bx * dn + dy,"),
    Bug("curvature's gradient without q", "numpy", " + np.sum(dq * square)", ""),
))  # fmt: skip
EXP_MAP_ORIGIN = declaration("exp_map_origin", draw_vector, ("v", "c"), PLACES, (
    Bug("tanh of half the radius", "torch", "tanhc(c * _square(v)) * v", "tanhc(c * _square(v) / 4) * v / 2"),
    Bug("curvature forgotten", "torch", "c * _square(v)", "_square(v)"),
    Bug("sinh", "numpy", "tanhc)", "__import__('numpy_ref.hyperbolic.radial', fromlist='x').sinhc)"),
    Bug("half of the stretch's gradient", "numpy", "2.0 * c * dt", "c * dt", "_stretched"),
    Bug("curvature's gradient lost", "numpy", "np.sum(dt * square)", "np.sum(0 * dt)", "_stretched"),
))  # fmt: skip
LOG_MAP_ORIGIN = declaration("log_map_origin", draw_points, ("x", "c"), PLACES, (
    Bug("twice as long", "torch", "atanhc(", "2 * atanhc("),
    Bug("tanh", "torch", "atanhc(", "tanhc("),
    Bug("0 / 0 at the origin", "torch", "atanhc(c * _square(x)) * x", "(c * _square(x)).sqrt().atanh() / (c * _square(x)).sqrt() * x"),
    Bug("clamped far inside", "torch", "c * _square(x)", "(c * _square(x)).clamp(max=0.9)"),
    Bug("stretch is constant", "numpy", "dt = stretch_vjp(_dot(dy, v))", "dt = 0 * stretch_vjp(_dot(dy, v))", "_stretched"),
))  # fmt: skip
EXP_MAP = declaration("exp_map", draw_step, ("x", "v", "c"), (*PLACES, "no step"), (
    Bug("as at the origin", "torch", "v / _gap(x, c)", "v"),
    Bug("multiplied by the gap", "torch", "v / _gap(x, c)", "v * _gap(x, c)"),
    Bug("added the other way round", "torch", "mobius_add(x, exp_map_origin(v / _gap(x, c), c), c)", "mobius_add(exp_map_origin(v / _gap(x, c), c), x, c)"),
    Bug("gap is constant", "numpy", "dx + dx_gap", "dx"),
    Bug("curvature's gradient of the step lost", "numpy", "dc + dc_step + dc_gap", "dc + dc_gap"),
))  # fmt: skip
LOG_MAP = declaration("log_map", draw_pair, ("x", "y", "c"), PAIRS, (
    Bug("as at the origin", "torch", "factor * bx * e", "factor * e"),
    Bug("0 / 0 for equal points", "torch", "asinhc(h)", "h.sqrt().asinh() / h.sqrt()"),
    Bug("difference the other way round", "torch", "e, bx, by = y - x,", "e, bx, by = x - y,"),
    Bug("chord for the arc", "torch", "asinhc(h) / (by * (1 + h).sqrt())", "1 / (by * (1 + h).sqrt())"),
    Bug("sign of the difference's gradient", "numpy", "dx_h - minus_dx", "dx_h + minus_dx"),
    Bug("root is constant", "numpy", " + 0.5 * gap * dot * ratio / root", ""),
    Bug("curvature's gradient by h lost", "numpy", "dc + dc_h + dc_gap", "dc + dc_gap"),
))  # fmt: skip
HAVERSINE = declaration("haversine", draw_haversine, ("x", "y", "c"), (*PAIRS, "all pairs"), (
    Bug("one gap twice", "torch", "_gap(x, c) * _gap(y, c)", "_gap(x, c) * _gap(x, c)"),
    Bug("curvature forgotten", "torch", "c * _square(x - y)", "_square(x - y)"),
    Bug("gradient of y's gap lost", "numpy", "dy - sum_to(de, y.shape)", "0 * dy - sum_to(de, y.shape)"),
    Bug("half of the difference's gradient", "numpy", "de = 2.0 * c", "de = c"),
    Bug("curvature's gradient of the gaps alone", "numpy", " + np.sum(dh * square / product)", ""),
), elementwise=("value",))  # fmt: skip
DISTANCE = declaration("distance", draw_distance, ("x", "y", "c"), (*PAIRS, "squared", "all pairs"), (
    Bug("not divided by sqrt(c)", "numpy", "d = theta * c**power", "d = theta + 0 * c**power"),
    Bug("curvature's gradient by haversine alone", "numpy", "dc + power * np.sum(dd * d) / c", "dc"),
    Bug("divided by c", "torch", "(c if squared else c**0.5)", "c"),
    Bug("never squared", "torch", "arc(haversine(x, y, c), squared)", "arc(haversine(x, y, c))"),
    Bug("acosh", "torch", "arc(haversine(x, y, c), squared)", "(1 + 2 * haversine(x, y, c)).clamp(min=1 + 1e-7).acosh() ** (1 + squared)"),
), elementwise=("value",))  # fmt: skip
PARALLEL_TRANSPORT = declaration("parallel_transport", draw_transport, ("x", "y", "v", "c"), (*PAIRS, "no step"), (
    Bug("scaled, not turned", "torch", "torch.addcmul(v, along, e).addcmul_(beside, x)", "v", "_transported"),
    Bug("turned, not scaled", "torch", "by / bx * torch", "torch", "_transported"),
    Bug("scaled the wrong way", "torch", "by / bx", "bx / by", "_transported"),
    Bug("turned the wrong way", "torch", "turn = 2 * c", "turn = -2 * c", "_transported"),
    Bug("scale is constant", "numpy", "dratio, dz = _dot(dout, z), ratio * dout", "dratio, dz = 0 * _dot(dout, z), ratio * dout"),
    Bug("denominator is constant", "numpy", "dd = -_dot(dturn, turn) / denominator", "dd = 0 * denominator"),
    Bug("curvature's slope without its square", "numpy", "4.0 * c * xe", "2.0 * c * xe"),
))  # fmt: skip
EXP_AND_CARRY = declaration("exp_and_carry", draw_carried, (), (*PLACES, "no step", "to the border"), (
    Bug("not carried", "numpy", "parallel_transport(x, y, v, c)[0]", "v"),
    Bug("not projected", "numpy", "project(exp_map(x, factor * v, c)[0], c)", "exp_map(x, factor * v, c)"),
    Bug("tanh of the coordinates' length", "torch", "way = factor / bx", "way = factor * 1"),
    Bug("step without the turn to the origin", "torch", "turned = q * over / bx", "turned = q * 0"),
    Bug("projected, but carried as if not", "torch", ".masked_fill_(outside, _BORDER * (2 - _BORDER))", ""),
    Bug("carried without its length", "torch", "bx, by, xx, xv, c)", "bx, bx, xx, xv, c)"),
    Bug("carried without the turn", "torch", ".addcmul_(beside, x)", "", "_transported"),
))  # fmt: skip
MOBIUS_SCALAR = declaration("mobius_scalar", draw_scaled, ("r", "x", "c"), ("other curvature", "nearly flat", "origin among them"), (
    Bug("Euclid's product", "torch", "exp_map_origin(r * log_map_origin(x, c), c)", "r * x + 0 * c"),
    Bug("scaled after the map", "torch", "exp_map_origin(r * log_map_origin(x, c), c)", "r * exp_map_origin(log_map_origin(x, c), c)"),
    Bug("factor's gradient of the point", "numpy", "np.sum(dw * u)", "np.sum(dw * x)"),
    Bug("factor forgotten in the backward", "numpy", "u_vjp(r * dw)", "u_vjp(dw)"),
    Bug("curvature's gradient of one map", "numpy", "dc + dc_x", "dc"),
))  # fmt: skip
MOBIUS_MATVEC = declaration("mobius_matvec", draw_matrix, ("matrix", "x", "c"), ("other curvature", "nearly flat", "origin among them"), (
    Bug("in the ball itself", "torch", "exp_map_origin(log_map_origin(x, c) @ matrix.mT, c)", "x @ matrix.mT + 0 * c"),
    Bug("no logarithm", "torch", "log_map_origin(x, c) @", "x @"),
    Bug("matrix's gradient of the point", "numpy", "rows.T @ u.reshape(-1, u.shape[-1])", "rows.T @ x.reshape(-1, x.shape[-1])"),
    Bug("curvature's gradient of one map", "numpy", "dc + dc_x", "dc"),
))  # fmt: skip
SQUARED_LENGTH = declaration("squared_length", draw_step, (), (*PLACES, "no step"), (
    Bug("Euclid's", "numpy", "4.0 * _dot(v, v) / _gap(x, c)[0] ** 2", "_dot(v, v)"),
    Bug("length", "torch", "(2 / _gap(x, c)).square()", "(2 / _gap(x, c))"),
    Bug("divided by the metric", "torch", "(2 / _gap(x, c))", "(_gap(x, c) / 2)"),
    Bug("without its four", "torch", "(2 / _gap(x, c))", "(1 / _gap(x, c))"),
))  # fmt: skip
RIEMANNIAN_GRADIENT = declaration("riemannian_gradient", draw_gradient, (), PLACES, (
    Bug("Euclid's gradient", "numpy", "0.25 * _gap(x, c)[0] ** 2 * grad", "grad"),
    Bug("multiplied by the metric", "numpy", "_gap(x, c)[0] ** 2", "_gap(x, c)[0] ** -2"),
    Bug("factor, not metric", "torch", ".square()", ""),
    Bug("without its quarter", "torch", "(_gap(x, c) / 2)", "_gap(x, c)"),
))  # fmt: skip
CONVERSION = numpy_conversion, torch_conversion
TO_POINCARE = declaration("to_poincare", draw_lorentz, ("x", "c"), PLACES, (
    Bug("Klein's model", "numpy", "factor = 1.0 / (1.0 + time)", "factor = 1.0 / time"),
    Bug("curvature forgotten in the plane", "numpy", "dt * square", "0 * dt"),
    Bug("factor is constant", "numpy", "dt = -0.5", "dt = -0.0"),
    Bug("radius 1 whatever the curvature", "torch", "space / (1 + (1 + c * space.square().sum(-1, keepdim=True)).sqrt())", "space / (1 + (1 / c + space.square().sum(-1, keepdim=True)).sqrt())"),
    Bug("time as space", "torch", "space = x[..., 1:]", "space = x[..., :-1]"),
), CONVERSION)  # fmt: skip
TO_LORENTZ = declaration("to_lorentz", lambda source: draw_points(source, "p"), ("p", "c"), PLACES, (
    Bug("half as far", "torch", "2 * p", "p"),
    Bug("curvature forgotten", "torch", "1 - c * p", "1 - p"),
    Bug("factor's derivative", "numpy", "0.5 * factor * factor, 0.0", "0.5 * factor, 0.0"),
    Bug("curvature's gradient of the lift alone", "numpy", "dc + np.sum(dt * square)", "dc"),
    Bug("clamped far inside", "torch", "torch.finfo(p.dtype).eps / 2", "0.05"),
), CONVERSION)  # fmt: skip

COMPONENTS = (
    CONFORMAL_FACTOR, PROJECT, MOBIUS_ADD, EXP_MAP_ORIGIN, LOG_MAP_ORIGIN, EXP_MAP, LOG_MAP, HAVERSINE, DISTANCE,
    PARALLEL_TRANSPORT, EXP_AND_CARRY, MOBIUS_SCALAR, MOBIUS_MATVEC, SQUARED_LENGTH,
    RIEMANNIAN_GRADIENT, TO_POINCARE, TO_LORENTZ,
)  # fmt: skip
