"""Orders of learning: what each strategy promises, and that a run may stop and go on anywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_ref.errors import UserError
from numpy_ref.sft.curriculum import BLOCK, STRATEGIES
from numpy_ref.sft.settings import CURRICULA
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)


def ordered(wing, strategy, draws, difficulty, share=1.0, **more):
    return plain(wing.module("sft.curriculum").order(strategy, np.asarray(draws), difficulty, share, 7, **more))


def mixed(wing, position, count, sizes, temperature=1.0):
    return [plain(x) for x in wing.module("sft.curriculum").source_draws(position, count, sizes, temperature, 3)]


@both
@pytest.mark.parametrize("strategy", ["random", "length", "anti"])
def test_every_epoch_shows_every_example_once(wing, strategy):
    difficulty = np.random.default_rng(0).integers(0, 5, 37).astype(float)
    epochs = ordered(wing, strategy, np.arange(3 * 37), difficulty).reshape(3, 37)
    assert all(set(epoch) == set(range(37)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])  # ties come in another order at least
    steps = np.diff(difficulty[epochs], axis=1)
    assert {"length": (steps >= 0).all(), "anti": (steps <= 0).all(), "random": (steps < 0).any()}[strategy]


@both
@pytest.mark.parametrize("strategy", ["competence", "self-paced"])
def test_a_pool_holds_the_easiest_and_all_of_them_come_up(wing, strategy):
    difficulty = np.random.default_rng(1).standard_normal(40)
    for share, size in ((0.01, 1), (0.1, 4), (0.101, 5), (1.0, 40)):
        found = ordered(wing, strategy, np.arange(2000), difficulty, share)
        assert set(found) == set(np.argsort(difficulty)[:size])
        assert np.bincount(found).max() < 3 * 2000 / size  # each about as often


@both
@settings(max_examples=6)
@given(position=st.integers(0, 5000), cuts=st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_where_a_run_is_cut_does_not_matter(wing, position, cuts):
    """Batches one after the other are the draws in one go: of a mixture, and of every strategy."""
    total, sizes = sum(cuts), [5, 70, 300]
    whole, parts, at = mixed(wing, position, total, sizes), [], position
    for count in cuts:
        parts.append(mixed(wing, at, count, sizes))
        at += count
    assert all(np.array_equal(whole[i], np.concatenate([part[i] for part in parts])) for i in (0, 1))
    difficulty = np.random.default_rng(2).integers(0, 4, 29).astype(float)
    for strategy in STRATEGIES:
        whole = ordered(wing, strategy, position + np.arange(total), difficulty, 0.5)
        parts = [ordered(wing, strategy, p, difficulty, 0.5) for p in np.split(position + np.arange(total), np.cumsum(cuts)[:-1])]
        assert np.array_equal(whole, np.concatenate(parts))


@both
@pytest.mark.parametrize("temperature, shares", [(1.0, (0.01, 0.09, 0.9)), (2.0, (0.0741, 0.2224, 0.7034)), (1e9, (1 / 3, 1 / 3, 1 / 3))])
def test_sources_have_their_shares_in_every_block(wing, temperature, shares):
    """n^(1/T) over its sum: 10, 90 and 900 examples; at T = 2 the roots 3.16, 9.49 and 30."""
    for block in (0, 1, 9):
        source, draw = mixed(wing, block * BLOCK, BLOCK, [10, 90, 900], temperature)
        counts = np.bincount(source, minlength=3)
        assert np.abs(counts / BLOCK - shares).max() < 0.002
        for k in range(3):  # no draw of a source is left out or comes twice
            assert np.array_equal(draw[source == k], block * counts[k] + np.arange(counts[k]))


@both
def test_a_small_source_is_never_lost(wing):
    source, _ = mixed(wing, 0, BLOCK, [1, 10**6])
    assert np.bincount(source).tolist() == [1, BLOCK - 1]


@both
def test_competence_grows_from_the_start_to_all(wing):
    competence = wing.module("sft.curriculum").competence
    values = [competence(t, 100, 0.2) for t in range(150)]
    assert values[0] == pytest.approx(0.2) and values[100:] == [1.0] * 50
    assert all(a < b for a, b in zip(values[:100], values[1:101]))
    assert values[25] == pytest.approx(np.sqrt(0.25 * (1 - 0.04) + 0.04))  # the paper's equation
    assert competence(50, 100, 0.2, 1.0) == pytest.approx(0.6)


@both
def test_what_is_no_order(wing):
    assert CURRICULA == wing.module("sft.curriculum").STRATEGIES
    with pytest.raises(UserError, match="random"):
        ordered(wing, "alphabetical", [0], np.zeros(3))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="above 0"):
            mixed(wing, 0, 1, [3, 4], temperature)
