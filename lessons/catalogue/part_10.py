"""Exercises of lesson 10: units of meaning, and a space in which trees fit."""

from dataclasses import replace

import numpy as np

from lessons.exercise import Exercise
from parity_tests.components.chunking import EMA_SCAN
from parity_tests.components.ddim import DDIM_STEP
from parity_tests.components.lorentz import LIFT
from parity_tests.components.modulate import FILM
from parity_tests.components.past import PAST_MEAN
from parity_tests.components.patches import COMPLETE, ENTROPIES, SPACE
from parity_tests.components.poincare import DISTANCE, EXP_MAP_ORIGIN, HAVERSINE, MOBIUS_ADD, RIEMANNIAN_GRADIENT
from parity_tests.components.segmentation import LOG_LIKELIHOOD
from parity_tests.harness.declaration import Bug


def points(source, c, *shape):
    """Points of the ball of curvature -c, some of them near its border."""
    direction = source.rng.standard_normal(shape)
    radius = source.rng.uniform(0, 1, (*shape[:-1], 1)) ** source.choice(0.5, 2.0) * 0.98
    return direction / np.linalg.norm(direction, axis=-1, keepdims=True) * radius / np.sqrt(c)


def draw_two(source):
    c, shape = np.array(source.choice(1.0, 0.5, 2.0)), (source.integer(1, 4), source.integer(1, 4))
    return source.case({"x": points(source, c, *shape), "y": points(source, c, *shape), "c": c})


def draw_vector(source):
    c, shape = np.array(source.choice(1.0, 0.5, 2.0)), (source.integer(1, 4), source.integer(1, 4))
    return source.case({"v": source.rng.standard_normal(shape) * source.choice(0.1, 1.0, 3.0), "c": c})


def draw_space(source):
    c, shape = np.array(source.choice(1.0, 0.5, 2.0)), (source.integer(1, 4), source.integer(1, 4))
    return source.case({"space": source.rng.standard_normal(shape) * source.choice(0.1, 1.0, 3.0), "c": c})


def draw_gradient(source):
    c, shape = np.array(source.choice(1.0, 0.5, 2.0)), (source.integer(1, 4), source.integer(1, 4))
    return source.case({"x": points(source, c, *shape), "grad": source.rng.standard_normal(shape), "c": c})


EXERCISES = (
    Exercise(
        name="10_space_starts",
        title="Patches that end with a space",
        component=SPACE,
        minutes=20,
        hints=(
            "Spacelike: no letter (c | 32 between a and z, below 128), no digit, no continuation byte (c >> 6 == 0b10).",
            "There are T + 1 answers; the one at t may look at bytes before t only. A patch begins behind a spacelike byte ...",
            "... unless the byte before that is spacelike, too: starts[:, 2:] = spacelike[:, 1:] & ~spacelike[:, :-1].",
            "The first byte is a patch of its own: starts[:, :2] is True.",
        ),
        mistakes={
            "begins at the space: the border tells of a byte to come": "a patch begins *behind* a spacelike byte; else the border tells of a byte that is still to be predicted.",
            "behind every space of several": "of several spacelike bytes in a row only the first ends a patch.",
            "digits are spacelike": "digits are not spacelike.",
            "characters are cut": "continuation bytes (0b10......) are not spacelike: a character must not be cut.",
            "capitals are spacelike": "capitals are letters, too.",
            "the first byte is not alone": "the first byte is a patch of its own: the second answer is True.",
        },
    ),
    Exercise(
        name="10_entropies",
        title="Where is the next byte hard to predict?",
        component=ENTROPIES,
        minutes=15,
        hints=(
            "Log-softmax of the logits, then -sum p ln p over the last axis.",
            "The logits at t - 1 predict byte t, so the entropies move one to the right; nothing predicts byte 0: ln V.",
        ),
        mistakes={
            "in bits": "entropies are in nats: the natural logarithm.",
            "the surprise of the likeliest": "the entropy is a sum over all bytes, weighted by their probabilities.",
            "not shifted": "the logits at t - 1 predict byte t: the first answer is ln V.",
            "the first byte is known": "nothing predicts byte 0: its entropy is ln V.",
        },
    ),
    Exercise(
        name="10_complete_ids",
        title="What may be known already?",
        component=COMPLETE,
        minutes=10,
        hints=(
            "cumsum of the starts counts the patches that have begun before each byte.",
            "The patch of byte t is complete if the next one begins before byte t + 1: look one further, and subtract 2 (one for the count, one for the patch that has just begun).",
        ),
        mistakes={
            "the patch of the byte itself: it knows what comes": "a byte's own patch is complete only if the next one begins right behind it.",
            "one patch late": "that is one patch too few.",
            "complete one byte late": "the patch of byte t is complete if a patch begins before byte t + 1.",
        },
    ),
    Exercise(
        name="10_ema_scan",
        title="A recurrence, and its backward pass from the end",
        component=EMA_SCAN,
        minutes=30,
        hints=(
            "Forward: y_k = p_k z_k + (1 - p_k) y_(k-1), one chunk after the other, from y = 0.",
            "Backward, from the end: a_k is all that reaches y_k: dy_k, and (1 - p_(k+1)) a_(k+1) from the chunk behind it.",
            "dz_k = p_k a_k, dp_k = sum over the features of a_k (z_k - y_(k-1)).",
        ),
        mistakes={
            "weights exchanged": "p_k belongs to the new chunk, 1 - p_k to what came before.",
            "the weight of the chunk itself carried on in the backward": "what is carried to the chunk before is (1 - p_k) a_k.",
            "the gradient is not carried on": "y_k enters all later chunks: their gradient comes back to it.",
            "dp against the chunk itself": "dp_k is a_k (z_k - y_(k-1)): the chunk *before* stands there.",
        },
    ),
    Exercise(
        name="10_ddim_step",
        title="From noise towards a concept, one step",
        component=DDIM_STEP,
        minutes=15,
        hints=(
            "Take the signal sqrt(level) * clean off x: what is left is sqrt(1 - level) times the noise.",
            "Put both together again at the next level: sqrt(next_level) of the clean vector, sqrt(1 - next_level) of the noise.",
            "noise_scale divides the noise, and nothing else.",
            "Where s is 0 nothing fresh is added: begin with eta = 0, then take s^2 away from the old noise's share and add s * fresh.",
        ),
        mistakes={
            "levels for their roots": "a level is a share of the *variance*: vectors are scaled by its square root.",
            "the noise of the step before": "the noise comes back at the next level: sqrt(1 - next_level).",
            "the noisy vector for the clean one": "the signal of the next step is the clean vector, not x.",
            "noise not divided": "what is left of x is sqrt(1 - level) times the noise: divide by that.",
            "multiplied by the scale": "noise_scale divides the noise.",
        },
    ),
    Exercise(
        name="10_past_mean",
        title="A bag of what came before",
        component=PAST_MEAN,
        minutes=20,
        hints=(
            "Whether place t sees place s: 1 <= t - s <= span, a (T, T) matrix of zeros and ones.",
            "Divide its rows by how many places they see, at least 1: the first sees none, and gets 0.",
            "c = A x is linear in x, so dx = A^T dy.",
        ),
        mistakes={
            "the place itself": "a place sees those before it, not itself.",
            "the future": "a place sees those before it, never those behind it.",
            "one too far": "the farthest place in sight is t - span.",
            "always divided by the span": "at the beginning fewer than span places are there: divide by how many are seen.",
            "backward like forward": "the backward pass of A x is A^T dy: what t saw gives back to s.",
        },
    ),
    Exercise(
        name="10_film",
        title="A context scales and shifts",
        component=FILM,
        minutes=20,
        hints=(
            "scale = c Ws^T and shift = c Wb^T, by linear; y = (1 + scale) * x + shift.",
            "dx = dy * (1 + scale); into the scale goes dy * x, into the shift dy, and both go on through their linear.",
            "The context stands in both: its gradients add up.",
        ),
        mistakes={
            "scale from 0": "the scale is counted from 1: without context the word stays what it is.",
            "shift forgotten": "the context also shifts: + Wb c.",
            "gradient of the context through the shift alone": "the context stands in the scale and in the shift: add both.",
            "scale's gradient without x": "dL/d(Ws c) = dy * x: the scale multiplies x.",
        },
    ),
    Exercise(
        name="10_log_likelihood",
        title="All ways to write a word, together",
        component=replace(LOG_LIKELIHOOD, call=None),
        minutes=35,
        value_only=True,
        cases=25,
        hints=(
            "Z of the first j bytes is the sum over the tokens that end at j of Z(start) * p(token); Z(0) = 1.",
            "In logarithms: a_j = logsumexp over those tokens of a_start + score; subtract the largest first.",
            "The result is the sum over the words of weight * a_n.",
        ),
        mistakes={
            "weights forgotten in the sum": "each word counts as often as its weight says.",
            "the likeliest way for the sum of all": "Z is the sum over all ways to write the word, not the likeliest one.",
            "ends one byte early": "a token may be as long as the word itself.",
        },
    ),
    Exercise(
        name="10_distance",
        title="Distance in the Poincare ball",
        component=replace(DISTANCE, draw=draw_two),
        minutes=15,
        value_only=True,
        hints=(
            "h = c ||x - y||^2 / ((1 - c ||x||^2) (1 - c ||y||^2)), the distance is 2 asinh(sqrt(h)) / sqrt(c).",
            "acosh(1 + 2 h) is the same on paper, but loses all digits for near points: 1 + 2h rounds.",
        ),
        mistakes={
            "not divided by sqrt(c)": "lengths are in units of the curvature: divide by sqrt(c).",
            Bug("half as long", "numpy", "d = theta * c**power", "d = 0.5 * theta * c**power"): "the distance is *twice* asinh(sqrt(h)).",
            Bug("without one gap", "numpy", "square, product = _dot(e, e), bx * by", "square, product = _dot(e, e), bx + 0 * by", "haversine"): (
                "both points have a gap to the border: (1 - c ||x||^2) (1 - c ||y||^2)."
            ),
        },
    ),
    Exercise(
        name="10_haversine",
        title="How the distance pulls at both points",
        component=replace(HAVERSINE, draw=draw_two),
        minutes=30,
        hints=(
            "h = c ||e||^2 / (Bx By) with e = x - y, Bx = 1 - c ||x||^2 and By likewise.",
            "de = 2 c dh e / (Bx By) goes to x, and -de to y. dBx = -dh h / Bx, and dx gets -2 c dBx x.",
            "dc = sum of dh ||e||^2 / (Bx By) - dBx ||x||^2 - dBy ||y||^2.",
        ),
        mistakes={
            "gradient of y's gap lost": "y stands in its own gap to the border as well.",
            "half of the difference's gradient": "the derivative of ||e||^2 is 2 e.",
            "curvature's gradient of the gaps alone": "c stands in front of ||e||^2, too.",
        },
    ),
    Exercise(
        name="10_mobius_add",
        title="Adding points of the ball",
        component=replace(MOBIUS_ADD, draw=draw_two),
        minutes=15,
        value_only=True,
        hints=(
            "Write it down as it is: numerator and denominator, sums over the last axis with keepdims=True.",
            "For y close to -x both cancel; (Bx s + q x) / (Bx By + q) with s = x + y, q = c ||s||^2 does not.",
        ),
        mistakes={
            "second gap missing": "the denominator has a term with both ||x||^2 and ||y||^2.",
            Bug("exchanged", "numpy", "z = (bx * s + q * x) / denominator", "z = (by * s + q * y) / denominator"): "the sum does not commute: x (+) y is not y (+) x.",
            Bug("curvature 1", "numpy", "q = c * square", "q = 1.0 * square"): "the curvature c stands in every product of lengths.",
        },
    ),
    Exercise(
        name="10_exp_map_origin",
        title="From a vector to a point",
        component=replace(EXP_MAP_ORIGIN, draw=draw_vector),
        minutes=10,
        value_only=True,
        hints=(
            "r = sqrt(c) ||v||, the point is tanh(r) / r v.",
            "At v = 0 the factor is 1: 0 / 0 has to be kept away (np.where on r, before the division).",
        ),
        mistakes={
            "sinh": "in the ball it is tanh: points stay inside.",
            Bug("curvature forgotten", "numpy", "function(c * square)", "function(1.0 * square)", "_stretched"): "r = sqrt(c) ||v||: the curvature is missing.",
            Bug("twice as far", "numpy", "return _stretched(v, c, tanhc)", "return _stretched(2.0 * v, c, tanhc)"): "the point is tanh(r) / r v; that it lies 2 ||v|| from the origin is the ball's doing.",
        },
    ),
    Exercise(
        name="10_lift",
        title="The other model: points of a hyperboloid",
        component=replace(LIFT, draw=draw_space),
        minutes=15,
        hints=(
            "The time coordinate is sqrt(1 / c + ||s||^2), first; then the space coordinates.",
            "dspace = dx_s + dx_0 s / x_0; dc = -sum dx_0 / (2 c^2 x_0).",
        ),
        mistakes={
            "radius 1 / c": "the time of the origin is 1 / sqrt(c): under the root stands 1 / c.",
            "time's gradient lost": "the time depends on the space coordinates: dx_0 s / x_0 is missing.",
            "curvature's gradient of the wrong sign": "a larger c makes the time smaller: dc has a minus.",
        },
    ),
    Exercise(
        name="10_riemannian_gradient",
        title="Which way is steepest?",
        component=replace(RIEMANNIAN_GRADIENT, draw=draw_gradient),
        minutes=10,
        hints=(
            "Lengths at x are lambda = 2 / (1 - c ||x||^2) times Euclid's.",
            "The steepest direction is the Euclidean gradient divided by lambda^2.",
        ),
        mistakes={
            "Euclid's gradient": "near the border a small step is a long way: divide by lambda^2.",
            "multiplied by the metric": "the gradient is *divided* by lambda^2.",
            Bug("divided by lambda", "numpy", "0.25 * _gap(x, c)[0] ** 2 * grad", "0.5 * _gap(x, c)[0] * grad"): "it is divided by the square of lambda.",
        },
    ),
)
