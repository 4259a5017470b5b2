"""How the declarations of hyperbolic space draw curvatures, vectors and points, from the origin to far out."""

import numpy as np

CURVATURES = 1.0, 1.0, 0.25, 4.0, 1e-3
FAR = {"float64": 9.0, "float32": 5.0}  # radii, in units of 1 / sqrt(c): beyond, inputs of that format say too little
REGIMES = "one", "one", "close to the origin", "far", "origin among them"


def curvature(source):
    c = source.choice(*CURVATURES)
    source.event("other curvature", c != 1.0)
    source.event("nearly flat", c < 0.01)
    return np.array(c)


def shape(source, most=9):
    return (*source.leading(), source.size(most, block=4))


def vectors(source, shape, c, regimes=REGIMES):
    """Tangent vectors at the origin (..., d), of many lengths."""
    regime = source.choice(*regimes)
    source.event(regime)
    directions = source.rng.standard_normal(shape)
    directions /= np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)
    reach = {"far": FAR[source.dtype], "close to the origin": 1e-3}.get(regime, 2.0)
    lengths = reach * source.rng.uniform(0.3, 1.0, (*shape[:-1], 1))
    if regime == "origin among them":
        lengths = lengths * (source.rng.random(lengths.shape) < 0.5)
    return directions * lengths / np.sqrt(c)


def neighbours(source, v, c, kinds=("anywhere", "anywhere", "near", "equal", "along the radius")):
    """A second vector for each: anywhere, or in a special place as seen from the first."""
    kind = source.choice(*kinds)
    source.event(kind)
    if kind == "equal":
        return v.copy()
    if kind == "near":
        return v + 1e-2 * source.rng.standard_normal(v.shape) / np.sqrt(c)
    if kind == "along the radius":
        return v * source.rng.uniform(0.5, 1.3, (*v.shape[:-1], 1))
    return vectors(source, v.shape, c)


def on_hyperboloid(v, c):
    """Points exp_0(v) (..., 1 + d)."""
    r = np.sqrt(c) * np.linalg.norm(v, axis=-1, keepdims=True)
    space = np.where(r > 0, np.sinh(r) / np.where(r > 0, r, 1), 1) * v
    return np.concatenate((np.sqrt(1 / c + (space**2).sum(-1, keepdims=True)), space), -1)


def in_ball(v, c):
    """Points of the ball ||v|| away from the origin in the direction of v."""
    r = np.sqrt(c) * np.linalg.norm(v, axis=-1, keepdims=True)
    return np.where(r > 0, np.tanh(r / 2) / np.where(r > 0, r, 1), 0.5) * v


def tangent_at(source, x, c):
    """Random vectors tangent at points of the hyperboloid, of length around 1; some are 0."""
    space = source.rng.standard_normal((*x.shape[:-1], x.shape[-1] - 1))
    unit = x[..., 1:] / np.maximum(np.linalg.norm(x[..., 1:], axis=-1, keepdims=True), 1e-30)
    along = (space * unit).sum(-1, keepdims=True)
    space += along * (np.sqrt(c) * x[..., :1] - 1) * unit  # as long as it was, in the metric of the hyperboloid
    space *= source.rng.choice((0.0, 1e-3, 0.5, 1.0), (*x.shape[:-1], 1)) / np.sqrt(c)
    source.event("no step", bool((space == 0).all(-1).any()))
    return np.concatenate(((space * x[..., 1:]).sum(-1, keepdims=True) / x[..., :1], space), -1)
