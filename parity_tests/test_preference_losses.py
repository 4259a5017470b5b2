"""Closed forms of the losses over preferences, what they must be at any distance, and what their minima say."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.reward.settings import DPOConfig, RewardConfig
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
FAR = (0.0, 0.5, -0.5, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4)


def loss_and_slope(wing, path, name, *arrays, **more):
    """The loss, and its gradient by each of the arrays, float64."""
    function = getattr(wing.module(path), name)
    if str(wing) == "numpy_ref":
        value, vjp = function(*arrays, **more)
        grads = vjp(1.0)
        return float(value), grads if isinstance(grads, tuple) else (grads,)
    given = [wing.array(array).requires_grad_() for array in arrays]
    value = function(*given, **wing.array(more))
    value.backward()
    return value.item(), tuple(plain(one.grad) if one.grad is not None else np.zeros_like(plain(one)) for one in given)


def pair(lead, wing, name="bradley_terry", **more):
    return loss_and_slope(wing, "reward.objective", name, np.array([lead]), np.array([0.0]), **more)


@both
@pytest.mark.parametrize("lead", FAR)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bradley_terry_at_any_distance(wing, lead, dtype):
    """ln(1 + exp(-lead)) by hand: exp(-lead) far on the right, -lead far on the left, and nothing overflows."""
    value, (chosen, rejected) = loss_and_slope(
        wing, "reward.objective", "bradley_terry", np.array([lead], dtype), np.zeros(1, dtype)
    )
    exact = math.log1p(math.exp(-lead)) if lead > -700 else -lead
    slope = -1 / (1 + math.exp(lead)) if lead < 700 else 0.0
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    tiny = 1e-44 if dtype is np.float32 else 0.0  # exp(-100) in float32
    assert value == pytest.approx(exact, rel=tolerance, abs=tiny)
    assert chosen[0] == pytest.approx(slope, rel=tolerance, abs=tiny) and rejected[0] == -chosen[0]
    assert chosen.dtype == dtype


@both
@given(one=st.floats(-50, 50), other=st.floats(-50, 50), smoothing=st.floats(0, 0.49), margin=st.floats(0, 5))
def test_bradley_terry_is_a_probability(wing, one, other, smoothing, margin):
    """exp(-loss) of a pair and of the pair exchanged sum to 1; smoothing mixes both losses; a tie does not care which is first."""
    def at(first, second, **more):
        return loss_and_slope(wing, "reward.objective", "bradley_terry", np.array([first]), np.array([second]), **more)[0]

    right, wrong = at(one, other), at(other, one)
    assert math.exp(-right) + math.exp(-wrong) == pytest.approx(1, rel=1e-12)
    mixed = (1 - smoothing) * right + smoothing * wrong
    assert at(one, other, label_smoothing=smoothing) == pytest.approx(mixed, rel=1e-10, abs=1e-10)
    tied = np.array([True])
    assert at(one, other, ties=tied, margin=margin) == pytest.approx((right + wrong) / 2, rel=1e-10, abs=1e-10)
    assert at(one, other, margin=margin) == pytest.approx(at(one - margin, other), rel=1e-9, abs=1e-9)
    assert at(one, other, centring=0.1) == pytest.approx(right + 0.1 * (one + other) ** 2, rel=1e-10, abs=1e-10)


@both
def test_minima(wing):
    """Smoothing s has its minimum at a lead of ln((1 - s) / s); a tie at 0; centring at a sum of 0; IPO at 1 / (2 beta)."""
    lead = math.log(0.9 / 0.1)
    assert abs(pair(lead, wing, label_smoothing=0.1)[1][0][0]) < 1e-15
    assert pair(0.0, wing, ties=np.array([True]))[1][0][0] == 0
    _, slopes = loss_and_slope(wing, "reward.objective", "bradley_terry", np.array([40.0]), np.array([-40.0]), centring=0.3)
    assert abs(slopes[0][0]) < 1e-15
    zero = np.zeros(1)
    _, slopes = loss_and_slope(wing, "dpo.objective", "ipo", np.array([5.0]), zero, zero, zero, beta=0.1)
    assert slopes[0][0] == 0
    smooth = math.log(0.8 / 0.2) / 0.5
    _, slopes = loss_and_slope(
        wing, "dpo.objective", "dpo", np.array([smooth]), zero, zero, zero, beta=0.5, label_smoothing=0.2
    )
    assert abs(slopes[0][0]) < 1e-15


@both
@pytest.mark.parametrize("lead, slope", [(0.5, -1.0), (1.0, 0.0), (1.5, 0.0), (-3.0, -1.0), (1e4, 0.0), (-1e4, -1.0)])
def test_hinge(wing, lead, slope):
    """At the bend itself, a lead of exactly the margin, there is no slope."""
    value, (chosen, rejected) = pair(lead, wing, "margin_ranking")
    assert value == max(0.0, 1.0 - lead) and chosen[0] == slope and rejected[0] == -slope
    tied = {"ties": np.array([True])}
    value, (chosen, _) = pair(lead, wing, "margin_ranking", **tied)
    assert value == max(0.0, abs(lead) - 1.0) and chosen[0] == (math.copysign(1, lead) if abs(lead) > 1 else 0)


@both
@given(rewards=st.lists(st.floats(-20, 20), min_size=1, max_size=4))
def test_plackett_luce_is_a_probability_of_rankings(wing, rewards):
    """Over all orders of the answers exp(-loss) sums to 1."""
    orders = np.array([[rewards[i] for i in order] for order in itertools.permutations(range(len(rewards)))])
    total = sum(math.exp(-loss_and_slope(wing, "reward.objective", "plackett_luce", order[None])[0]) for order in orders)
    assert total == pytest.approx(1, rel=1e-10)


@both
@pytest.mark.parametrize("lead", FAR)
def test_a_ranking_of_two_is_a_pair(wing, lead):
    value, (slope,) = loss_and_slope(wing, "reward.objective", "plackett_luce", np.array([[lead, 0.0]]))
    other, (chosen, rejected) = pair(lead, wing)
    assert value == pytest.approx(other, rel=1e-12, abs=1e-15) and slope[0] == pytest.approx([chosen[0], rejected[0]], abs=1e-15)


@both
def test_lists_that_are_shorter(wing):
    """What is behind the end of a list, NaN included where nobody may look, has no say; equal rewards cost ln K!."""
    rewards = np.array([[2.0, 1.0, 7.0], [3.0, 1.0, 2.0]])
    mask = np.array([[True, True, False], [True, True, True]])
    value, (slope,) = loss_and_slope(wing, "reward.objective", "plackett_luce", rewards, mask=mask)
    short = loss_and_slope(wing, "reward.objective", "plackett_luce", rewards[:1, :2])[0]
    whole = loss_and_slope(wing, "reward.objective", "plackett_luce", rewards[1:])[0]
    assert value == pytest.approx((short + whole) / 2, rel=1e-14) and slope[0, 2] == 0
    assert loss_and_slope(wing, "reward.objective", "plackett_luce", np.zeros((1, 5)))[0] == pytest.approx(math.log(120))


@both
def test_dpo_by_hand(wing):
    """beta 0.5 and a log ratio of 3 against one of 1: ln(1 + exp(-1)). Constants of a prompt cancel."""
    four = [np.array([value]) for value in (-10.0, -20.0, -13.0, -21.0)]
    assert loss_and_slope(wing, "dpo.objective", "dpo", *four, beta=0.5)[0] == pytest.approx(math.log1p(math.exp(-1)))
    shifted = [four[0] + 7, four[1] + 2, four[2] + 7, four[3] + 2]
    assert loss_and_slope(wing, "dpo.objective", "dpo", *shifted, beta=0.5)[0] == pytest.approx(math.log1p(math.exp(-1)))
    assert loss_and_slope(wing, "dpo.objective", "ipo", *four, beta=0.5)[0] == pytest.approx((2 - 1) ** 2)
    assert loss_and_slope(wing, "dpo.objective", "ipo", *four, beta=0.5, ties=np.array([True]))[0] == pytest.approx(4)


@both
def test_settings_choose_the_loss(wing):
    """``preference_loss`` and ``pair_loss`` hand every setting on."""
    scores, mask, margins = np.array([[1.0, 0.5]]), np.ones((1, 2), bool), np.array([0.25])
    ties = np.array([False])

    def loss(settings, **more):
        return float(wing.call("reward.step", "preference_loss", scores, mask, margins, ties, settings, **more))

    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert loss(RewardConfig()) == pytest.approx(softplus(-0.5))
    assert loss(RewardConfig(margin=1.0)) == pytest.approx(softplus(0.5))
    assert loss(RewardConfig(margin_scale=4.0)) == pytest.approx(softplus(0.5))
    assert loss(RewardConfig(centring=0.1)) == pytest.approx(softplus(-0.5) + 0.1 * 2.25)
    assert loss(RewardConfig(), label_smoothing=0.2, denominator=2) == pytest.approx((softplus(-0.5) + 0.2 * 0.5) / 2)
    assert loss(RewardConfig(loss="margin_ranking")) == pytest.approx(0.5)
    assert loss(RewardConfig(loss="margin_ranking", margin=2.0, margin_scale=2.0)) == pytest.approx(2.0)
    assert loss(RewardConfig(loss="plackett_luce")) == pytest.approx(softplus(-0.5))
    policy, reference = np.array([[-1.0, -2.0]]), np.array([[-1.5, -1.0]])

    def direct(settings, **more):
        return float(wing.call("dpo.step", "pair_loss", policy, reference, ties, settings, **more))

    assert direct(DPOConfig(beta=2.0)) == pytest.approx(softplus(-3.0))
    assert direct(DPOConfig(beta=2.0), label_smoothing=0.1, denominator=2) == pytest.approx((softplus(-3.0) + 0.3) / 2)
    assert direct(DPOConfig(loss="ipo", beta=1.0)) == pytest.approx(1.0)


@both
def test_metrics_leave_ties_out(wing):
    better, worse = np.array([1.0, 0.0, 2.0, 5.0]), np.array([0.0, 1.0, 2.0, -5.0])
    ties = np.array([False, False, False, True])
    found = wing.call("reward.step", "comparison_metrics", better, worse, ties, np.concatenate((better, worse)))
    assert found["accuracy"] == 0.5 and found["lead"] == 0 and found["reward"] == pytest.approx(6 / 8)
    nothing = wing.call("reward.step", "comparison_metrics", better[3:], worse[3:], ties[3:], better)
    assert np.isnan(nothing["accuracy"]) and np.isnan(nothing["lead"])
