"""What must hold of shaped rewards and of the measures of reward models, whatever the wings agree on."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.reward.pictures import kl_of_best_of
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)
numbers = st.floats(-100, 100).map(lambda x: round(x, 6))


def shaped(wing, name, *arrays, **more):
    return wing.call("reward.shaping", name, *arrays, **more)


@both
@given(values=st.lists(numbers, min_size=1, max_size=40), cut=st.integers(0, 40))
def test_moments_of_parts_are_those_of_the_whole(wing, values, cut):
    """However the rewards come in: mean, deviation and count are NumPy's own of all of them."""
    values = np.array(values)
    moments = wing.module("reward.shaping").NO_MOMENTS
    for part in (values[:cut], values[cut:]):
        moments = shaped(wing, "update_moments", moments, part)
    assert moments["count"] == len(values)
    assert moments["mean"] == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
    assert moments["squares"] / len(values) == pytest.approx(values.var(), rel=1e-9, abs=1e-9)
    if len(values) > 1 and values.std() > 1e-3:
        scaled = shaped(wing, "normalise", values, moments)
        assert scaled.mean() == pytest.approx(0, abs=1e-6) and scaled.std() == pytest.approx(1, rel=1e-4)


@both
def test_a_large_mean_costs_no_digits(wing):
    """10^9 + {0, 1, 2}: the sum of squares less the square of the sum would be garbage."""
    moments = wing.module("reward.shaping").NO_MOMENTS
    for value in (1e9, 1e9 + 1, 1e9 + 2):
        moments = shaped(wing, "update_moments", moments, np.array([value]))
    assert moments["squares"] == pytest.approx(2.0, rel=1e-6)


@both
@given(potentials=st.lists(numbers, min_size=1, max_size=12), gamma=st.sampled_from([1.0, 0.9, 0.5]), start=st.integers(0, 3))
def test_potentials_telescope(wing, potentials, gamma, start):
    """The discounted sum of the hints is -phi of the first state, whatever happens on the way; so no answer gains by it."""
    row = np.concatenate((np.full(start, 7.0), potentials, np.full(3, 9.0)))
    mask = (np.arange(len(row)) >= start) & (np.arange(len(row)) < start + len(potentials))
    hints = shaped(wing, "potential_shaping", row[None], mask[None], gamma=gamma)[0]
    discounted = sum(gamma**t * hint for t, hint in enumerate(hints[start : start + len(potentials)]))
    assert discounted == pytest.approx(-potentials[0], rel=1e-9, abs=1e-9) and (hints[~mask] == 0).all()


@both
def test_penalties_by_hand(wing):
    lengths = np.array([0, 5, 6, 8, 10, 11, 50])
    assert shaped(wing, "soft_overlong_penalty", lengths, 10, 4).tolist() == [0, 0, 0, -0.5, -1, -1, -1]
    assert shaped(wing, "soft_overlong_penalty", lengths, 10, 4, factor=2.0).tolist() == [0, 0, 0, -1, -2, -2, -2]
    assert shaped(wing, "length_penalty", lengths, 0.5, 6).tolist() == [0, 0, 0, -1, -2, -2.5, -22]
    rewards, ended = np.array([1.0, 2.0, -3.0]), np.array([True, False, False])
    assert shaped(wing, "missing_end_penalty", rewards, ended).tolist() == [1, 1, -4]
    assert shaped(wing, "missing_end_penalty", rewards, ended, 2.0, True).tolist() == [1, -2, -2]
    assert shaped(wing, "clip_rewards", np.array([-9.0, 0.5, 9.0]), 1.0).tolist() == [-1, 0.5, 1]


@both
def test_a_mixture_is_deaf_to_the_scale_of_its_parts_if_asked(wing):
    rng = np.random.default_rng(0)
    rewards, weights = rng.normal(size=(2, 9)), np.array([1.0, 0.5])
    louder = rewards * np.array([[1.0], [1000.0]]) + 3
    same = [shaped(wing, "mixture", given, weights, each_normalised=True) for given in (rewards, louder)]
    assert same[0] == pytest.approx(same[1], rel=1e-6, abs=1e-6)
    assert shaped(wing, "mixture", rewards, weights) == pytest.approx(rewards[0] + 0.5 * rewards[1])
    quiet = np.stack((rewards[0], np.full(9, 0.25)))
    assert np.isfinite(shaped(wing, "mixture", quiet, weights, each_normalised=True)).all()


@both
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_best_of_n_is_the_mean_over_all_choices(wing, n):
    """Every choice of n answers, its best by the proxy, its truth: counted out."""
    rng = np.random.default_rng(n)
    proxy, truth = rng.integers(0, 3, (3, 4)).astype(float), rng.normal(size=(3, 4))
    found = wing.call("reward.evaluation", "best_of_n", proxy, truth, n)
    assert found == pytest.approx(counted_out(proxy, truth, n), rel=1e-10)


def counted_out(proxy, truth, n):
    """Ties are broken at random: the mean over all orders of equal answers."""
    total = []
    for row, worth in zip(proxy, truth):
        orders = [order for order in itertools.permutations(range(len(row))) if all(row[a] <= row[b] for a, b in zip(order, order[1:]))]
        for order in orders:
            choices = [worth[order[max(choice)]] for choice in itertools.combinations(range(len(row)), n)]
            total.append((np.mean(choices), len(orders)))
    return sum(value / count for value, count in total) / len(proxy)


@both
def test_calibration_of_a_model_that_knows(wing):
    """Leads drawn so that sigmoid(lead) of the pairs are right: the error is next to nothing. Ten times as sure: it is not."""
    rng = np.random.default_rng(0)
    size = rng.uniform(0, 4, 20000)
    right = rng.random(20000) < 1 / (1 + np.exp(-size))
    lead = np.where(right, size, -size)
    confidence, accuracy, count, error = wing.call("reward.evaluation", "calibration", lead)
    assert error < 0.02 and count.sum() == 20000 and np.abs(confidence - accuracy).max() < 0.06
    assert wing.call("reward.evaluation", "calibration", 10 * lead)[3] > 0.1
    certain = wing.call("reward.evaluation", "calibration", np.full(5, 1e4))
    assert certain[3] == 0 and certain[2][-1] == 5


@both
def test_accuracy_by_hand(wing):
    lead, amount = np.array([1.0, -1.0, 0.0, 2.0]), np.array([0.1, 0.1, 0.3, 0.9])
    share, count = wing.call("reward.evaluation", "accuracy_by", lead, amount, np.array([0.0, 0.2, 0.5, 0.6, 1.0]))
    assert share.tolist() == [0.5, 0.5, 0, 1] and count.tolist() == [2, 1, 0, 1]


@both
def test_an_ensemble_is_as_sceptical_as_asked(wing):
    rewards = np.array([[1.0, 2.0], [3.0, 2.0]])
    found = {rule: wing.call("reward.model", "ensemble", rewards, rule).tolist() for rule in ("mean", "worst", "lower")}
    assert found == {"mean": [2, 2], "worst": [1, 2], "lower": [1, 2]}
    assert wing.call("reward.model", "ensemble", rewards, "lower", k=2.0).tolist() == [0, 2]


def test_kl_of_best_of_n():
    """By its definition for a continuous reward: the density of the best is n F^(n - 1), against 1."""
    for n in (1, 2, 7):
        u = (np.arange(200000) + 0.5) / 200000
        density = n * u ** (n - 1)
        assert kl_of_best_of(n) == pytest.approx(np.mean(density * np.log(density)), abs=1e-4)
    assert kl_of_best_of(1) == 0 and kl_of_best_of(4) == pytest.approx(math.log(4) - 0.75)
