"""Declarations of the centroid and of entailment cones."""

import numpy as np

import numpy_ref.hyperbolic.centroid as numpy_centroid
import numpy_ref.hyperbolic.cones as numpy_cones
import torch_impl.hyperbolic.centroid as torch_centroid
import torch_impl.hyperbolic.cones as torch_cones
from parity_tests import curved
from parity_tests.components.lorentz import PLACES
from parity_tests.components.tangent import DTYPES
from parity_tests.harness.declaration import Bug, Component


def draw_centroid(source):
    c, lead = curved.curvature(source), source.leading()
    points, width = source.size(9, block=4), source.size(9, block=4)
    v = curved.vectors(source, (*lead, points, width), c)
    if source.flag():  # a cluster
        v = v[..., :1, :] + source.choice(0.0, 1e-2) * source.rng.standard_normal(v.shape) / np.sqrt(c)
        source.event("cluster")
    weights = source.rng.uniform(0.1, 1.0, (*lead, points)) * source.choice(1.0, 1.0, 30.0, 1e-3)
    weights[..., 1:] *= source.rng.random((*lead, points - 1)) < 0.8
    source.event("one point", points == 1)
    source.event("no weight", bool((weights == 0).any()))
    return source.case({"x": curved.on_hyperboloid(v, c), "weights": weights, "c": c})


CENTROID = Component(
    name="centroid",
    numpy=numpy_centroid.centroid,
    torch=torch_centroid.centroid,
    draw=draw_centroid,
    differentiable=("x", "weights", "c"),
    dtypes=DTYPES,
    events=(*PLACES, "cluster", "one point", "no weight"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("mean of the coordinates", "numpy", "lift(total / (c**0.5 * nu), c)", "lift(total / np.sum(w, axis=-2) + 0 * nu, c)"),
        Bug("norm is constant", "numpy", "b = np.sum(g * total, axis=-1, keepdims=True)", "b = 0 * np.sum(g * total, axis=-1, keepdims=True)"),
        Bug("weights' gradient by Euclid's lengths", "numpy", "np.sum(ds * points, axis=-1)", "np.sum(ds[..., 1:] * space, axis=-1)"),
        Bug("curvature's own gradient lost", "numpy", " - np.sum(g * y[..., 1:]) / (2.0 * c)", ""),
        Bug("difference of two large numbers", "torch", "lead = (weights * (1 / (c * (times + n)) + n * apart / 2)).sum(-1)", "lead = (weights * times).sum(-1) - length + 0 * (weights * apart).sum(-1)", needs=("far", "cluster")),
        Bug("directions forgotten", "torch", "+ n * apart / 2)", "+ 0 * apart)"),
        Bug("radius without its root", "torch", "(c**0.5 * nu)", "(c * nu)"),
    ),
)  # fmt: skip


def draw_aperture(source):
    c = curved.curvature(source)
    v = curved.vectors(source, curved.shape(source), c)
    width = source.choice(0.1, 0.1, 0.5)
    sine = 2 * width / np.maximum(np.sinh(np.sqrt(c) * np.linalg.norm(v, axis=-1)), 1e-9)
    v[np.abs(sine - 1) < 0.05] *= 1.2  # where the cone becomes a half space the slope is infinite
    source.event("half space", bool((sine > 1.05).any()))
    source.event("cone", bool((sine < 0.95).any()))
    return source.case({"v": v, "c": c}, width=width)


HALF_APERTURE = Component(
    name="half_aperture",
    numpy=numpy_cones.half_aperture,
    torch=torch_cones.half_aperture,
    draw=draw_aperture,
    differentiable=("v", "c"),
    dtypes=DTYPES,
    elementwise=("value",),
    events=(*PLACES, "half space", "cone"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("multiplied by the curvature's root twice", "numpy", "2.0 * width /", "2.0 * c**0.5 * width /"),
        Bug("K instead of 2 K", "torch", "(2 * width /", "(width /"),
        Bug("width ignored", "torch", "(2 * width /", "(0.2 /"),
        Bug("NaN in half spaces", "torch", "torch.where(proper, reach, 4 * width)", "reach"),
        Bug("slope of the sine alone", "numpy", " * np.sqrt((1.0 - sine) * (1.0 + sine))", ""),
        Bug("curvature's gradient doubled", "numpy", "np.sum(dr * r) / (2.0 * c)", "np.sum(dr * r) / c"),
    ),
)  # fmt: skip


def draw_angle(source):
    """Pairs that are not exactly in line with the origin, where the angle has a kink; equal ones and the origin are."""
    c = curved.curvature(source)
    shape = (*source.leading(), 1 + source.size(8, block=4))
    v = curved.vectors(source, shape, c)
    w = curved.neighbours(source, v, c, ("anywhere", "anywhere", "near", "equal"))
    source.event("from the origin", bool((v == 0).all(-1).any()))
    source.event("to the origin", bool(((w == 0).all(-1) & (v != 0).any(-1)).any()))
    source.event("outwards", bool((np.linalg.norm(w, axis=-1) > np.linalg.norm(v, axis=-1)).any()))
    return {"v": v, "w": w, "c": c}


ANGLE_EVENTS = (*PLACES, "near", "equal", "from the origin", "to the origin", "outwards")
EXTERIOR_ANGLE = Component(
    name="exterior_angle",
    numpy=numpy_cones.exterior_angle,
    torch=torch_cones.exterior_angle,
    draw=lambda source: source.case(draw_angle(source)),
    differentiable=("v", "w", "c"),
    dtypes=DTYPES,
    elementwise=("value",),
    events=ANGLE_EVENTS,
    compiles=False,
    weight=2,
    bugs=(
        Bug("Euclid's angle", "numpy", "np.sinh(q - r) - np.sinh(q) * np.cosh(r) * lack", "(q - r) - q * lack"),
        Bug("interior angle", "torch", "torch.atan2(across, along)", "torch.atan2(across, -along)"),
        Bug("angle at the other point", "torch", "(q - r).sinh() - q.sinh() * r.cosh()", "(r - q).sinh() - r.sinh() * q.cosh()"),
        Bug("component along is constant", "numpy", "ds, dc = g * along, -g * across", "ds, dc = g * along, 0 * across"),
        Bug("their sum's direction lost", "numpy", "du, dz = de + df, df - de", "du, dz = de, -de"),
        Bug("gradient along the radius kept", "numpy", "(du - _dot(du, u) * u)", "du"),
        Bug("half the angle", "torch", "apart.square() / 2", "apart.square() / 4"),
    ),
)  # fmt: skip


def draw_energy(source):
    arrays, width = draw_angle(source), source.choice(0.1, 0.3)
    phi, _ = numpy_cones.exterior_angle(**arrays)
    psi, _ = numpy_cones.half_aperture(arrays["v"], arrays["c"], width)
    arrays["v"] = np.where((np.abs(phi - psi) < 1e-2)[..., None], 1.5 * arrays["v"], arrays["v"])
    source.event("inside", bool((phi < psi).any()))
    source.event("outside", bool((phi > psi).any()))
    return source.case(arrays, width=width)


ENTAILMENT_ENERGY = Component(
    name="entailment_energy",
    numpy=numpy_cones.entailment_energy,
    torch=torch_cones.entailment_energy,
    draw=draw_energy,
    differentiable=("v", "w", "c"),
    dtypes=DTYPES,
    elementwise=("value",),
    events=(*PLACES, "inside", "outside"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("inside counts, too", "numpy", "np.where(outside, excess, 0.0), vjp", "excess, vjp"),
        Bug("aperture is constant", "numpy", "dv + dv_psi", "dv"),
        Bug("gradient inside", "numpy", "dy = np.where(outside, dy, 0.0)", "dy = dy + 0 * outside"),
        Bug("whole aperture", "torch", "- half_aperture(v, c, width)", "- 2 * half_aperture(v, c, width)"),
        Bug("aperture of the other point", "torch", "half_aperture(v,", "half_aperture(w,"),
        Bug("width ignored", "torch", "half_aperture(v, c, width)", "half_aperture(v, c)"),
    ),
)  # fmt: skip

COMPONENTS = (CENTROID, HALF_APERTURE, EXTERIOR_ANGLE, ENTAILMENT_ENERGY)
