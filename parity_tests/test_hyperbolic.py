"""Hyperbolic space: closed forms, isometries, limits, and the places where formulas break: origin, equal points, border."""

import math

import numpy as np
import pytest
import torch

from numpy_ref.config import ModelConfig, parameter_shapes
from numpy_ref.errors import UserError
from numpy_ref.hyperbolic import radial
from numpy_ref.hyperbolic.tangent import sum_to
from parity_tests.components.block import random_parameters
from parity_tests.curved import in_ball, on_hyperboloid
from parity_tests.wings import WINGS

LORENTZ, POINCARE, TANGENT = "hyperbolic.lorentz", "hyperbolic.poincare", "hyperbolic.tangent"
CURVATURES = 1.0, 0.3, 5.0


@pytest.fixture(params=WINGS, ids=str)
def wing(request):
    return request.param


@pytest.fixture(params=CURVATURES)
def c(request):
    return request.param


def vectors(seed, count=20, width=4, reach=2.0, c=1.0):
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((count, width))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return directions * rng.uniform(0.1, reach, (count, 1)) / np.sqrt(c)


def points(wing, model, seed, c, **more):
    v = vectors(seed, c=c, **more)
    return wing.call(model, "exp_map_origin", v / (2 if model == POINCARE else 1), c)


def close(found, wanted, tolerance=1e-11):
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def length(wing, model, x, v, c):
    """Of a tangent vector, by the definition of the metric."""
    if model == LORENTZ:
        return np.sqrt(np.maximum(wing.call(model, "inner", v, v), 0))
    return np.linalg.norm(v, axis=-1) * wing.call(model, "conformal_factor", x, c)[..., 0]


def product(wing, model, x, v, w, c):
    if model == LORENTZ:
        return wing.call(model, "inner", v, w)
    return (v * w).sum(-1) * wing.call(model, "conformal_factor", x, c)[..., 0] ** 2


def tangent_vectors(wing, model, x, c, seed):
    """Of about length 1 at x: what leads to random points near by."""
    y = points(wing, model, seed, c, count=len(x), width=x.shape[-1] - (model == LORENTZ))
    return 0.5 * wing.call(model, "log_map", x, y, c)


# -- radial functions ---------------------------------------------------------------------------------------------

RATIOS = {"sinhc": (math.sinh, 1 / 6), "asinhc": (math.asinh, -1 / 6), "tanhc": (math.tanh, -1 / 3), "atanhc": (math.atanh, 1 / 3)}


@pytest.mark.parametrize("name", RATIOS)
def test_ratios_are_what_their_names_say(name):
    """Also at 0; and the slope's error, which the square multiplies in every map, is a few roundoffs."""
    function, at_zero = RATIOS[name]
    t = np.array([0.0, 1e-300, 1e-13, 1e-9, 1e-4, 0.01, 0.3, 0.9, 0.999])
    y, vjp = getattr(radial, name)(t)
    wanted = [function(math.sqrt(x)) / math.sqrt(x) if x else 1.0 for x in t]
    close(y, wanted, 1e-14)
    slope = vjp(np.ones_like(t))
    close(slope[:3], at_zero, 1e-12)
    h = 1e-6 * t[4:]
    difference = (getattr(radial, name)(t[4:] + h)[0] - getattr(radial, name)(t[4:] - h)[0]) / (2 * h)
    np.testing.assert_allclose(t[4:] * slope[4:], t[4:] * difference, rtol=1e-6, atol=1e-9)
    assert getattr(radial, name)(t.astype(np.float32))[0].dtype == np.float32


@pytest.mark.parametrize("kind, tolerance", [(np.float64, 1e-14), (np.float32, 4e-7)])
def test_slopes_of_the_fast_side(kind, tolerance):
    """By shorter series than the reference's, as the format needs, up to t = 1, and as they are written beyond."""
    from torch_impl.hyperbolic.radial import asinhc_slope, sinhc_slope

    t = np.array([0.0, 1e-20, 1e-9, 1e-3, 0.5, 0.999, 1.001, 3.0, 40.0]).astype(kind)
    (y, vjp), (z, z_vjp) = (function(t.astype(np.float64)) for function in (radial.sinhc, radial.asinhc))
    given, ones = [torch.from_numpy(np.asarray(a, kind)) for a in (t, np.cosh(np.sqrt(t)), y, z)], np.ones(len(t))
    slope, other = sinhc_slope(*given[:3]), asinhc_slope(given[0], given[3])
    assert slope.numpy().dtype == kind
    np.testing.assert_allclose(slope.numpy()[t < 1], vjp(ones)[t < 1], rtol=tolerance)
    np.testing.assert_allclose(slope.numpy()[t > 1], vjp(ones)[t > 1], rtol=20 * tolerance)
    np.testing.assert_allclose(other.numpy(), z_vjp(ones), rtol=30 * tolerance)


def test_atanh_ends_before_infinity():
    for kind in (np.float32, np.float64):
        y, vjp = radial.atanhc(np.array([1.0, 2.0], kind))
        assert np.isfinite(y).all() and (y > 8).all() and (vjp(np.ones(2, kind)) == 0).all()


def test_sums_of_broadcast_gradients():
    """It is the transpose of broadcasting."""
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal((2, 3, 4))
    for shape in ((4,), (3, 1), (1, 3, 4), (2, 3, 4), (1, 1, 1), ()):
        small = rng.standard_normal(shape)
        found = sum_to(gradient, shape)
        assert np.shape(found) == shape
        close((found * small).sum(), (gradient * small).sum())


# -- distances ----------------------------------------------------------------------------------------------------


def exact_distance(v, w, c):
    """By the law of cosines in the longest format there is, from vectors as they are."""
    v, w = v.astype(np.longdouble), w.astype(np.longdouble)
    r, q = (np.sqrt(np.longdouble(c)) * np.sqrt((x * x).sum(-1)) for x in (v, w))
    e = v / np.sqrt((v * v).sum(-1))[..., None] - w / np.sqrt((w * w).sum(-1))[..., None]
    h = np.sinh((r - q) / 2) ** 2 + np.sinh(r) * np.sinh(q) * (e * e).sum(-1) / 4
    return 2 * np.arcsinh(np.sqrt(h)) / np.sqrt(np.longdouble(c))


def test_right_triangles(wing, c):
    """The hyperbolic theorem of Pythagoras: cosh(hypotenuse) = cosh(a) cosh(b)."""
    a, b = np.array([0.3, 1.0, 2.0]), np.array([0.7, 0.2, 2.5])
    v, w = np.zeros((2, 3, 2))
    v[:, 0], w[:, 1] = a / np.sqrt(c), b / np.sqrt(c)
    wanted = np.arccosh(np.cosh(a) * np.cosh(b)) / np.sqrt(c)
    close(wing.call(TANGENT, "distance", v, w, c), wanted)
    close(wing.call(LORENTZ, "distance", on_hyperboloid(v, c), on_hyperboloid(w, c), c), wanted)
    close(wing.call(POINCARE, "distance", in_ball(v, c), in_ball(w, c), c), wanted)


def test_distances_are_right_in_float32_where_acosh_is_not(wing):
    """Radii from 1e-6 to 12, near and far: relative error below 5e-7; far out acosh has none of the digits."""
    cases = [(2, 2, 1e-3), (5, 4.9, 0), (10, 9, 0), (12, 12, 1e-4), (12, 12, 3), (1e-3, 2e-3, 1), (8, 1e-6, 2), (3, 3.0001, 0)]
    polar = np.array(cases)
    v = np.stack((polar[:, 0], 0 * polar[:, 0]), -1).astype(np.float32)
    w = np.stack((polar[:, 1] * np.cos(polar[:, 2]), polar[:, 1] * np.sin(polar[:, 2])), -1).astype(np.float32)
    found = wing.call(TANGENT, "distance", v, w, 1.0)
    wanted = exact_distance(v, w, 1.0)
    assert found.dtype == np.float32
    assert np.abs(found / wanted - 1).max() < 5e-7
    x, y = (on_hyperboloid(p.astype(np.float64), 1.0).astype(np.float32) for p in (v, w))
    naive = np.arccosh(np.maximum(x[:, 0] * y[:, 0] - (x[:, 1:] * y[:, 1:]).sum(-1), 1))
    assert np.abs(naive / wanted - 1)[[2, 3]].min() > 0.5


def test_the_three_distances_are_one(wing, c):
    v, w = vectors(1, c=c), vectors(2, c=c)
    wanted = exact_distance(v, w, c).astype(float)
    x, y = (wing.call(LORENTZ, "exp_map_origin", u, c) for u in (v, w))
    p, q = (wing.call(POINCARE, "exp_map_origin", u / 2, c) for u in (v, w))
    for found in (
        wing.call(TANGENT, "distance", v, w, c),
        wing.call(LORENTZ, "distance", x, y, c),
        wing.call(POINCARE, "distance", p, q, c),
        np.arccosh(-c * wing.call(LORENTZ, "inner", x, y)) / np.sqrt(c),
        np.sqrt(wing.call(TANGENT, "distance", v, w, c, squared=True)),
        np.sqrt(wing.call(LORENTZ, "distance", x, y, c, squared=True)),
    ):
        close(found, wanted, 1e-9)


def test_all_pairs_by_broadcasting(wing):
    v, w = vectors(1, 5), vectors(2, 3)
    found = wing.call(TANGENT, "distance", v[:, None], w[None], 1.0)
    assert found.shape == (5, 3)
    close(found[2, 1], wing.call(TANGENT, "distance", v[2:3], w[1:2], 1.0)[0])


@pytest.mark.parametrize("model", [LORENTZ, POINCARE])
def test_curvature_is_a_unit_of_length(wing, c, model):
    """Lengths in space of curvature -c are those of curvature -1, divided by sqrt(c)."""
    v, w = vectors(3), vectors(4)
    one = [wing.call(model, "exp_map_origin", u, 1.0) for u in (v, w)]
    other = [wing.call(model, "exp_map_origin", u / np.sqrt(c), c) for u in (v, w)]
    close(wing.call(model, "distance", *other, c), wing.call(model, "distance", *one, 1.0) / np.sqrt(c))


@pytest.mark.parametrize("model, scale", [(LORENTZ, 1), (POINCARE, 2)])
def test_flat_space_is_the_limit(wing, model, scale):
    """As c goes to 0: distances, maps and transport are Euclid's (in the ball, twice as long)."""
    c, v, w = 1e-9, vectors(5), vectors(6)
    x, y = (wing.call(model, "exp_map_origin", u, c) for u in (v, w))
    close(wing.call(model, "distance", x, y, c), scale * np.linalg.norm(v - w, axis=-1), 1e-7)
    space = slice(1 if model == LORENTZ else 0, None)
    close(wing.call(model, "log_map", x, y, c)[:, space], w - v, 1e-7)
    carried = wing.call(model, "parallel_transport", x, y, wing.call(model, "log_map", x, y, c), c)
    close(carried[:, space], w - v, 1e-7)
    close(wing.call(TANGENT, "distance", v, w, c), np.linalg.norm(v - w, axis=-1), 1e-7)


# -- maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [LORENTZ, POINCARE])
def test_logarithm_and_exponential_are_inverse(wing, c, model):
    x, y = points(wing, model, 1, c), points(wing, model, 2, c)
    v = wing.call(model, "log_map", x, y, c)
    close(wing.call(model, "exp_map", x, v, c), y, 1e-9)
    close(length(wing, model, x, v, c), wing.call(model, "distance", x, y, c), 1e-9)
    close(wing.call(model, "exp_map_origin", wing.call(model, "log_map_origin", x, c), c), x)
    assert np.abs(wing.call(model, "log_map", x, x, c)).max() == 0
    assert np.array_equal(wing.call(model, "exp_map", x, 0 * v, c), x) or model == POINCARE


@pytest.mark.parametrize("model", [LORENTZ, POINCARE])
def test_maps_at_the_origin_are_the_general_ones(wing, c, model):
    y, v = points(wing, model, 1, c), vectors(2, c=c)
    origin = wing.call(model, "exp_map_origin", 0 * v, c)
    padded = np.concatenate((0 * v[:, :1], v), -1) if model == LORENTZ else v
    close(wing.call(model, "exp_map", origin, padded, c), wing.call(model, "exp_map_origin", v, c))
    found = wing.call(model, "log_map", origin, y, c)
    close(found[:, 1 if model == LORENTZ else 0 :], wing.call(model, "log_map_origin", y, c))


@pytest.mark.parametrize("model", [LORENTZ, POINCARE])
def test_transport_keeps_lengths_and_angles(wing, c, model):
    x, y = points(wing, model, 1, c), points(wing, model, 2, c)
    v, w = (tangent_vectors(wing, model, x, c, seed) for seed in (3, 4))
    moved = [wing.call(model, "parallel_transport", x, y, u, c) for u in (v, w)]
    close(product(wing, model, y, *moved, c), product(wing, model, x, v, w, c), 1e-9)
    if model == LORENTZ:
        close(wing.call(LORENTZ, "inner", y, moved[0]), 0, 1e-9)  # tangent at y
    close(wing.call(model, "parallel_transport", y, x, moved[0], c), v, 1e-9)  # there and back
    forth, back = wing.call(model, "log_map", x, y, c), wing.call(model, "log_map", y, x, c)
    close(wing.call(model, "parallel_transport", x, y, forth, c), -back, 1e-9)  # geodesics go straight on
    close(wing.call(model, "parallel_transport", x, x, v, c), v)


def test_the_models_are_one_space(wing, c):
    """Conversions are inverse to each other, keep distances, and commute with going along geodesics."""
    convert = "hyperbolic.conversion"
    x, y = points(wing, LORENTZ, 1, c), points(wing, LORENTZ, 2, c)
    p, q = (wing.call(convert, "to_poincare", z, c) for z in (x, y))
    assert (c * (p * p).sum(-1) < 1).all()
    close(wing.call(convert, "to_lorentz", p, c), x)
    close(wing.call(POINCARE, "distance", p, q, c), wing.call(LORENTZ, "distance", x, y, c))
    half = wing.call(LORENTZ, "exp_map", x, 0.5 * wing.call(LORENTZ, "log_map", x, y, c), c)
    other = wing.call(POINCARE, "exp_map", p, 0.5 * wing.call(POINCARE, "log_map", p, q, c), c)
    close(wing.call(convert, "to_poincare", half, c), other, 1e-9)
    v = vectors(7, c=c)
    close(wing.call(convert, "to_poincare", wing.call(LORENTZ, "exp_map_origin", v, c), c), wing.call(POINCARE, "exp_map_origin", v / 2, c))


def test_moebius_operations_are_those_of_the_paper(wing, c):
    x, y = points(wing, POINCARE, 1, c), points(wing, POINCARE, 2, c)
    xy, xx, yy = ((a * b).sum(-1, keepdims=True) for a, b in ((x, y), (x, x), (y, y)))
    wanted = ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c**2 * xx * yy)
    total = wing.call(POINCARE, "mobius_add", x, y, c)
    close(total, wanted)
    close(wing.call(POINCARE, "mobius_add", -x, total, c), y, 1e-9)  # left cancellation
    close(wing.call(POINCARE, "mobius_scalar", 2.0, x, c), wing.call(POINCARE, "mobius_add", x, x, c), 1e-10)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    close(wing.call(POINCARE, "mobius_matvec", rotation, x, c), x @ rotation.T)
    gyrodistance = 2 / np.sqrt(c) * np.arctanh(np.sqrt(c) * np.linalg.norm(wing.call(POINCARE, "mobius_add", -x, y, c), axis=-1))
    close(wing.call(POINCARE, "distance", x, y, c), gyrodistance, 1e-9)


def test_steepest_ascent(wing, c):
    """The Riemannian gradient is the tangent vector whose products with tangent vectors are the directional derivatives."""
    for model in (LORENTZ, POINCARE):
        x = points(wing, model, 1, c)
        grad = np.random.default_rng(2).standard_normal(x.shape)
        found = wing.call(model, "riemannian_gradient", x, grad, c)
        v = tangent_vectors(wing, model, x, c, 3)
        close(product(wing, model, x, found, v, c), (grad * v).sum(-1), 1e-9)


# -- the centroid -------------------------------------------------------------------------------------------------


def test_centroids(wing, c):
    """Of one point itself, of two the middle of their geodesic; of many no neighbour has a smaller sum of -<x, y>."""
    x, y = points(wing, LORENTZ, 1, c), points(wing, LORENTZ, 2, c)
    middle = wing.call("hyperbolic.centroid", "centroid", np.stack((x, y), 1), np.full((20, 2), 3.0), c)
    close(middle, wing.call(LORENTZ, "exp_map", x, 0.5 * wing.call(LORENTZ, "log_map", x, y, c), c), 1e-9)
    close(wing.call("hyperbolic.centroid", "centroid", x[:, None], np.full((20, 1), 0.2), c), x, 1e-9)
    weights = np.random.default_rng(3).random(20)
    best = wing.call("hyperbolic.centroid", "centroid", x, weights, c)

    def cost(z):
        return -(weights * wing.call(LORENTZ, "inner", x, np.broadcast_to(z, x.shape))).sum()

    for step in tangent_vectors(wing, LORENTZ, np.repeat(best[None], 9, 0), c, 4):
        for size in (0.1, 1e-3):
            assert cost(wing.call(LORENTZ, "exp_map", best, size * step, c)) > cost(best)


def test_the_centroid_of_a_far_cluster_in_float32(wing):
    """Nine away from the origin, where -<s, s> of the sum is all rounding error, it stays inside its cluster."""
    v = vectors(1, 1) / np.linalg.norm(vectors(1, 1)) * 9 + 1e-4 * np.random.default_rng(2).standard_normal((8, 4))
    x = on_hyperboloid(v, 1.0)
    exact = wing.call("hyperbolic.centroid", "centroid", x, np.ones(8), 1.0)
    found = wing.call("hyperbolic.centroid", "centroid", x.astype(np.float32), np.ones(8, np.float32), 1.0)
    spread = WINGS[0].call(LORENTZ, "distance", x, exact[None], 1.0).max()
    error = WINGS[0].call(LORENTZ, "distance", found.astype(np.float64), exact, 1.0)
    assert error < 0.1 * spread


# -- layers -------------------------------------------------------------------------------------------------------


def heads(seed, c, keys=5):
    """Space coordinates of queries, keys and values: (2, 3, keys, 4) each."""
    v = vectors(seed, 3 * 2 * 3 * keys, c=c)
    return on_hyperboloid(v, c)[:, 1:].reshape(3, 2, 3, keys, 4)


def test_attention_is_by_distance_and_gives_centroids(wing, c):
    """Against its definition: softmax of distances squared, computed from points, and the centroid one row at a time."""
    query, key, value = heads(1, c)
    found = wing.call("hyperbolic.layers", "lorentz_attention", query, key, value, c, causal=True, scale=0.7)
    q, k, v = (WINGS[0].call(LORENTZ, "lift", x, c) for x in (query, key, value))
    squares = 4 / c * np.sinh(np.sqrt(c) * WINGS[0].call(LORENTZ, "distance", q[..., :, None, :], k[..., None, :, :], c) / 2) ** 2
    lifted = wing.call("hyperbolic.layers", "lift_heads", query, key, value, c)
    close(lifted[0] @ np.swapaxes(lifted[1], -1, -2), -2 / c - squares)
    weights = np.exp(-0.7 * squares) * np.tri(5)
    for row in range(5):
        share = weights[..., row, :] / weights[..., row, :].sum(-1, keepdims=True)
        close(found[..., row, :], WINGS[0].call("hyperbolic.centroid", "centroid", v, share, c)[..., 1:], 1e-9)
    config = ModelConfig(attention_curvature=c)
    sums = WINGS[0].call(LORENTZ, "lift", value, c)  # of a single key each
    close(wing.call("model.multi_head_attention", "attended_heads", sums, config), value)


def test_attention_does_not_depend_on_where_the_origin_is(wing):
    """An isometry of the whole space moves the results along: distances and centroids have no favourite point."""
    boost = np.eye(5)
    boost[:2, :2] = [[math.cosh(0.8), math.sinh(0.8)], [math.sinh(0.8), math.cosh(0.8)]]

    def moved(x):
        return (WINGS[0].call(LORENTZ, "lift", x, 1.0) @ boost)[..., 1:]

    given = heads(2, 1.0)
    plain = wing.call("hyperbolic.layers", "lorentz_attention", *given, 1.0)
    close(wing.call("hyperbolic.layers", "lorentz_attention", *(moved(x) for x in given), 1.0), moved(plain), 1e-9)
    as_a_layer = wing.call("hyperbolic.layers", "lorentz_linear", given[0], boost.T[1:], None, 1.0)
    close(as_a_layer, moved(given[0]))


def test_a_model_with_hyperbolic_heads_sees_no_future(wing):
    """And it is another model than the flat one; what its distances mean, the tests of attention say."""
    size = {"vocab_size": 11, "context": 9, "layers": 2, "width": 16, "heads": 2, "feed_forward": 16}
    curved, flat = ModelConfig(**size, attention_curvature=1.0, embedding_curvature=1.0), ModelConfig(**size)
    params = random_parameters(np.random.default_rng(0), parameter_shapes(curved))
    tokens = np.random.default_rng(1).integers(0, 11, (1, 9))
    other = tokens.copy()
    other[0, 5:] = (other[0, 5:] + 1) % 11
    first, second, plain = (
        wing.call("model.transformer", "transformer", given, params, config)
        for given, config in ((tokens, curved), (other, curved), (tokens, flat))
    )
    assert np.array_equal(first[:, :5], second[:, :5]) and not np.allclose(first[:, 5:], second[:, 5:])
    assert not np.allclose(first, plain)


def test_embeddings_of_a_model_are_as_far_out_as_their_rows_are_long(wing):
    """What enters the first block is points; with positions off, their distances from the origin are lengths of rows."""
    config = ModelConfig(vocab_size=7, context=5, layers=1, width=8, heads=2, feed_forward=8, positions="none", embedding_curvature=2.0)
    params = random_parameters(np.random.default_rng(0), parameter_shapes(config))
    tokens = np.array([[3, 1, 6, 0, 3]])
    found = wing.call("model.transformer", "embed", tokens, np.arange(5)[None], params, config)
    x = WINGS[0].call(LORENTZ, "lift", found, 2.0)
    reach = WINGS[0].call(LORENTZ, "distance", x, WINGS[0].call(LORENTZ, "lift", 0 * found, 2.0), 2.0)
    close(reach, np.linalg.norm(params["token_embedding.weight"][tokens], axis=-1))


@pytest.mark.parametrize("given", [{"embedding_curvature": -1.0}, {"embedding_curvature": math.inf}, {"attention_curvature": -1.0}, {"attention_curvature": math.nan}, {"attention_curvature": 1.0, "attention_softcap": 2.0}])
def test_curvatures_that_are_none(given):
    with pytest.raises(UserError, match=next(iter(given))):
        ModelConfig(**given)


# -- entailment cones ---------------------------------------------------------------------------------------------


def test_the_exterior_angle_is_that_of_the_logarithm(wing, c):
    v, w = vectors(1, c=c), vectors(2, c=c)
    x, y = on_hyperboloid(v, c), on_hyperboloid(w, c)
    way, out = wing.call(LORENTZ, "log_map", x, y, c), wing.call(LORENTZ, "log_map", x, on_hyperboloid(2 * v, c), c)
    cosine = wing.call(LORENTZ, "inner", way, out) / np.sqrt(wing.call(LORENTZ, "inner", way, way) * wing.call(LORENTZ, "inner", out, out))
    close(wing.call("hyperbolic.cones", "exterior_angle", v, w, c), np.arccos(np.clip(cosine, -1, 1)), 1e-7)
    ball = in_ball(v, c)
    norm = np.sqrt(c) * np.linalg.norm(ball, axis=-1)
    wanted = np.arcsin(np.minimum(0.1 * (1 - norm**2) / norm, 1))
    close(wing.call("hyperbolic.cones", "half_aperture", v, c), wanted)


def test_cones_are_nested(wing):
    """What is in the cone of a point of a cone is in that cone: entailment is transitive."""
    rng, cones = np.random.default_rng(1), "hyperbolic.cones"
    x, y, z = (rng.standard_normal((4000, 2)) * 0.3 * k for k in (1, 2, 4))
    y, z = y + 2 * x, z + 4 * x
    inside = [wing.call(cones, "entailment_energy", *pair, 1.0, 0.3) == 0 for pair in ((x, y), (y, z), (x, z))]
    proper = np.sinh(np.linalg.norm(x, axis=-1)) > 0.6  # nearer to the origin cones are half spaces
    chain = inside[0] & inside[1] & proper
    assert chain.sum() > 20 and inside[2][chain].all() and not inside[2].all()


# -- optimisers ---------------------------------------------------------------------------------------------------

SGD, ADAM = "hyperbolic.riemannian_sgd", "hyperbolic.riemannian_adam"


def descend(wing, model, x, targets, c, steps, optimizer, lr):
    """x after some steps towards the points that minimise the squared distances to ``targets``."""
    manifold = model.rpartition(".")[2]
    state = wing.call(ADAM, "init_state", x)
    for _ in range(steps):
        _, vjp = WINGS[0].module(model).distance(x[:, None], targets[None], c, squared=True)
        grad = vjp(np.ones((len(x), len(targets))))[0]
        grad = grad.sum(1) if grad.ndim == 3 else grad
        grad = grad.reshape(x.shape)
        if optimizer == "sgd":
            x = wing.call(SGD, "riemannian_sgd", x, grad, lr, c, manifold)
        else:
            x, state = wing.call(ADAM, "riemannian_adam", x, grad, state, lr, c, manifold=manifold)
    return x


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_both_models_descend_alike(wing, c, optimizer):
    """Gradient, steps, lengths and transport belong to the space: the ball's run is the hyperboloid's, converted."""
    x, targets = points(wing, LORENTZ, 1, c, count=4), points(wing, LORENTZ, 2, c, count=3)
    p, centres = (wing.call("hyperbolic.conversion", "to_poincare", z, c) for z in (x, targets))
    lr = 0.02 if optimizer == "sgd" else 0.1 / np.sqrt(c)
    one = descend(wing, LORENTZ, x, targets, c, 6, optimizer, lr)
    other = descend(wing, POINCARE, p, centres, c, 6, optimizer, lr)
    close(wing.call("hyperbolic.conversion", "to_poincare", one, c), other, 1e-9)
    assert (wing.call(LORENTZ, "distance", x, one, c) > 0.05 / np.sqrt(c)).all()


def test_descent_finds_the_middle(wing):
    """The point with the least squared distances to two others is half way between them."""
    targets = points(wing, LORENTZ, 3, 1.0, count=2)
    found = descend(wing, LORENTZ, points(wing, LORENTZ, 4, 1.0, count=1), targets, 1.0, 60, "sgd", 0.1)
    close(found[0], wing.call("hyperbolic.centroid", "centroid", targets, np.ones(2), 1.0), 1e-6)


def test_the_first_adam_step_is_as_long_as_the_learning_rate(wing, c):
    for model in (LORENTZ, POINCARE):
        x = points(wing, model, 1, c)
        grad = np.random.default_rng(2).standard_normal(x.shape)
        state = wing.call(ADAM, "init_state", x)
        moved, _ = wing.call(ADAM, "riemannian_adam", x, grad, state, 0.01, c, manifold=model.rpartition(".")[2])
        close(wing.call(model, "distance", x, moved, c), 0.01, 1e-6)


@pytest.mark.parametrize("manifold, metric", [("lorentz", 1), ("poincare", 4)])
def test_flat_optimisers_are_the_ordinary_ones(wing, manifold, metric):
    """As c goes to 0: plain gradient descent, and Adam where a point has one coordinate. The ball's metric is 4 there."""
    rng, c = np.random.default_rng(5), 1e-9
    model = LORENTZ if manifold == "lorentz" else POINCARE
    v = rng.standard_normal((6, 1))
    x = wing.call(model, "exp_map_origin", v, c)
    pad = ((0, 0), (1, 0)) if manifold == "lorentz" else ((0, 0), (0, 0))
    space = slice(pad[1][0], None)
    state, plain = wing.call(ADAM, "init_state", x), v
    adam = {"step": 0, "m": 0 * v, "v": 0 * v}
    for _ in range(4):
        grad = rng.standard_normal(v.shape)
        step = wing.call(SGD, "riemannian_sgd", x, np.pad(grad, pad), 0.1, c, manifold)
        close(step[:, space], plain - 0.1 * grad / metric, 1e-7)
        x, state = wing.call(ADAM, "riemannian_adam", x, np.pad(grad, pad), state, 0.1, c, beta2=0.95, manifold=manifold)
        lr = 0.1 / math.sqrt(metric)
        plain, adam = wing.call("training.adamw", "adamw", plain, grad, adam, lr, eps=1e-8 * math.sqrt(metric))
        close(x[:, space], plain, 1e-6)


def test_unknown_manifolds(wing):
    with pytest.raises(UserError, match="lorentz"):
        wing.module(SGD).named("klein")


NO_POINTS = {
    "beyond the border": ("poincare", [[0.1, 0.2], [0.8, 0.7]], 1.0, r"row 1 of the points is outside the ball.* 1\.13"),
    "on the border": ("poincare", [[0.0, 0.5]], 4.0, "row 0 of the points is outside the ball.* 1;"),
    "no number": ("poincare", [[0.1, math.nan]], 1.0, "row 0"),
    "off the hyperboloid": ("lorentz", [[1.0, 0.0], [1.5, 0.2]], 1.0, r"row 1 of the points is .* the hyperboloid.* 2\.21"),
    "the lower sheet": ("lorentz", [[-1.0, 0.0]], 1.0, "row 0"),
    "curvature 0": ("poincare", [[0.0, 0.0]], 0.0, "finite c above 0; c = 0"),
    "positive curvature": ("lorentz", [[1.0, 0.0]], -1.0, "finite c above 0; c = -1"),
    "no curvature": ("lorentz", [[1.0, 0.0]], math.nan, "finite c above 0"),
}


@pytest.mark.parametrize("manifold, rows, c, words", NO_POINTS.values(), ids=NO_POINTS)
def test_what_are_no_points_is_said_in_a_line(wing, manifold, rows, c, words):
    with pytest.raises(UserError, match=words) as caught:
        wing.call("hyperbolic.points", "check_points", np.array(rows), c, manifold)
    assert "\n" not in str(caught.value)


def test_points_are_points(wing, c):
    """Near the origin and far out, in both formats; projection mends what is refused."""
    for kind, reach in ((np.float64, 12.0), (np.float32, 7.0)):
        v = vectors(1, reach=reach, c=c)
        for manifold, x in (("lorentz", on_hyperboloid(v, c)), ("poincare", in_ball(v, c))):
            x = x.astype(kind)
            wing.call("hyperbolic.points", "check_points", x, c, manifold)
            with pytest.raises(UserError, match="project"):
                wing.call("hyperbolic.points", "check_points", x * kind(1e7), c, manifold)
            mended = wing.call(LORENTZ if manifold == "lorentz" else POINCARE, "project", x * kind(1e4), c)
            wing.call("hyperbolic.points", "check_points", mended, c, manifold)


# -- origin, equal points, border ---------------------------------------------------------------------------------


def gradients(function, *arrays):
    """Value and gradients of a Torch function at NumPy arrays, all of which must be finite."""
    tensors = [torch.from_numpy(np.asarray(array).copy()).requires_grad_() for array in arrays]
    value = function(*tensors)
    found = torch.autograd.grad(value.sum(), tensors, allow_unused=True, materialize_grads=True)
    return [value.detach().numpy(), *(grad.numpy() for grad in found)]


EDGES = {
    "border": np.array([[1.0, 0.0], [0.0, -1.0], [0.6, 0.8]]),
    "beyond": np.array([[2.0, 0.0], [0.0, -1.5], [3.0, 4.0]]),
    "origin": np.zeros((3, 2)),
    "next to the origin": np.full((3, 2), 1e-25),
}
TWO = "mobius_add", "exp_map", "log_map", "distance", "haversine"


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("place", EDGES)
def test_everything_is_finite_at_the_edges_of_the_ball(place, kind):
    from numpy_ref.hyperbolic import conversion as numpy_conversion
    from numpy_ref.hyperbolic import poincare as reference
    from torch_impl.hyperbolic import conversion as torch_conversion
    from torch_impl.hyperbolic import poincare as fast

    x, c = EDGES[place].astype(kind), np.array(1.0, kind)
    calls = [(reference, fast, name, (x, y)) for name in TWO for y in (x, -x, 0.5 * x, 0 * x + kind(0.3))]
    calls += [(reference, fast, name, (x,)) for name in ("log_map_origin", "conformal_factor", "project", "exp_map_origin")]
    calls += [(reference, fast, "parallel_transport", (x, y, x)) for y in (x, -x, 0 * x)]
    calls += [(numpy_conversion, torch_conversion, "to_lorentz", (x,))]
    for numpy_module, torch_module, name, arrays in calls:
        value, vjp = getattr(numpy_module, name)(*arrays, c)
        for leaf in (value, *vjp(np.ones_like(value)), *gradients(getattr(torch_module, name), *arrays, c)):
            assert np.isfinite(leaf).all(), (name, arrays, leaf)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_everything_is_finite_at_equal_points_of_the_hyperboloid(kind):
    from numpy_ref.hyperbolic import lorentz as reference
    from torch_impl.hyperbolic import lorentz as fast

    for v in (np.zeros((1, 3)), np.array([[1e-22, 0, 0]]), np.array([[0.3, -0.2, 0.1]]), np.array([[6.0, 6.0, 0]])):
        x, c = on_hyperboloid(v, 1.0).astype(kind), np.array(1.0, kind)
        for name, arrays in (
            ("distance", (x, x)), ("log_map", (x, x)), ("exp_map", (x, 0 * x)), ("log_map_origin", (x,)),
            ("parallel_transport", (x, x, 0 * x)),
        ):  # fmt: skip
            value, vjp = getattr(reference, name)(*arrays, c)
            found = gradients(getattr(fast, name), *arrays, c)
            for leaf in (value, *vjp(np.ones_like(value)), *found):
                assert np.isfinite(leaf).all(), (name, arrays, leaf)
            if name == "distance":
                assert value == found[0] == 0


def test_the_gradient_at_the_origin_points_away_from_the_other(wing):
    """Distance is smooth there: moving towards w by s shortens it by s."""
    w = np.array([[0.6, 0.8]])
    if wing is WINGS[0]:
        value, vjp = wing.module(TANGENT).distance(0 * w, w, 1.0)
        grad = vjp(np.ones_like(value))[0]
    else:
        grad = gradients(lambda v: wing.module(TANGENT).distance(v, torch.from_numpy(w), 1.0), 0 * w)[1]
    close(grad, -w)


def test_curvature_can_be_learnt():
    """Distances of a space of curvature -2 between given tangent vectors: descent finds the curvature, on both sides."""
    v, w = vectors(1), vectors(2)
    wanted = exact_distance(v, w, 2.0).astype(float)
    for wing in WINGS:
        log_c = 0.0
        for _ in range(200):
            c = np.array(math.exp(log_c))
            if wing is WINGS[0]:
                d, vjp = wing.module(TANGENT).distance(v, w, c)
                dc = vjp(2 * (d - wanted) / len(d))[2]
            else:
                def loss(c):
                    return (wing.module(TANGENT).distance(torch.from_numpy(v), torch.from_numpy(w), c) - torch.from_numpy(wanted)).square().mean()

                dc = gradients(loss, c)[1]
            log_c -= 4 * float(dc) * math.exp(log_c)
        assert abs(math.exp(log_c) - 2) < 1e-6
