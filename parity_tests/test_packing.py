"""Conversations in rows: packed or not, filled up left or right, in parts or at once, what is learnt is the same."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError
from parity_tests.test_properties import random_params
from parity_tests.test_step import assert_close
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
SINUSOIDAL = ModelConfig(vocab_size=13, context=24, layers=2, width=8, heads=2, feed_forward=16)
MODELS = {
    "sinusoidal": SINUSOIDAL,
    "learned": dataclasses.replace(SINUSOIDAL, positions="learned", norm_position="post", tie_embeddings=True),
    "rope": dataclasses.replace(SINUSOIDAL, positions="rope", kv_heads=1, norm="rms", activation="swiglu"),
    "alibi": dataclasses.replace(SINUSOIDAL, positions="alibi"),
    "window": dataclasses.replace(SINUSOIDAL, positions="rope", window=3, sinks=1),
}
TRAIN = TrainConfig(dtype="float64", device="cpu", label_smoothing=0.05, z_loss=1e-3)


def texts(count=9, longest=10, seed=0):
    """(ids, weights, borders): texts of many lengths, a few of 2 tokens and of the longest."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 2, count)
    lengths[:2] = 2, longest + 1
    borders = np.concatenate(([0], np.cumsum(lengths)))
    weights = rng.choice([0.0, 0.3, 1.0], borders[-1])
    weights[borders[1:] - 1] = 1.0  # the end of an answer
    return rng.integers(0, 13, borders[-1]), weights, borders


def learnt(wing, model, found, train=TRAIN):
    """Loss and gradients of a batch as ``conversation_batch`` makes it."""
    inputs, targets, weights, documents = (None if x is None else plain(x) for x in found)
    arguments = wing.array((random_params(model), inputs, targets))
    loss, grads = wing.module("training.step").loss_and_grads(
        *arguments, model, train, 0, documents=wing.array(documents), weights=wing.array(weights)
    )
    return float(loss), plain(grads)


def batch_of(wing, *arguments, **keywords):
    return wing.module("data.packing").conversation_batch(*arguments, **keywords)


@both
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_packed_conversations_are_learnt_as_if_alone(wing, model):
    """Loss and every gradient: packed, padded on either side, wide or narrow rows, with rows of nothing, in parts."""
    data, chosen = texts(), np.arange(9)
    alone = learnt(wing, model, batch_of(wing, *data, chosen, 10, packed=False))
    for width in (10, 17, 24):
        for side in ("right", "left"):
            found = batch_of(wing, *data, chosen, width, side=side)
            assert len(found[0]) < 9
            assert_close(learnt(wing, model, found), alone, 1e-12)
            assert_close(learnt(wing, model, batch_of(wing, *data, chosen, width, packed=False, side=side)), alone, 1e-12)
    parts = dataclasses.replace(TRAIN, batch=3, accumulate=3)
    assert_close(learnt(wing, model, batch_of(wing, *data, chosen, 24, multiple=3), parts), alone, 1e-12)


@both
def test_the_loss_is_that_of_each_conversation_by_itself(wing):
    """Not only the same in every arrangement: the weighted mean over the conversations, each in a batch of its own."""
    data, total, weight = texts(), 0.0, 0.0
    for text in range(9):
        found = batch_of(wing, *data, np.array([text]), 10)
        own = float(plain(found[2]).sum())
        total, weight = total + own * learnt(wing, SINUSOIDAL, found)[0], weight + own
    whole = learnt(wing, SINUSOIDAL, batch_of(wing, *data, np.arange(9), 24))[0]
    assert abs(whole - total / weight) < 1e-12


@both
def test_what_fills_rows_up_changes_no_bit(wing):
    data, rng = texts(), np.random.default_rng(3)
    for side in ("right", "left"):
        inputs, targets, weights, documents = map(plain, batch_of(wing, *data, np.arange(9), 24, side=side, multiple=4))
        before = learnt(wing, SINUSOIDAL, (inputs, targets, weights, documents))
        empty = documents < 0
        assert empty.any() and (weights[empty] == 0).all() and (targets[empty] == -100).all()
        other = np.where(empty, rng.integers(0, 13, empty.shape), inputs)
        after = learnt(wing, SINUSOIDAL, (other, targets, weights, documents))
        assert after[0] == before[0] and all(np.array_equal(grad, after[1][name]) for name, grad in before[1].items())


@both
@given(data=st.data(), capacity=st.integers(1, 60))
def test_best_fit_decreasing_is_a_packing_and_a_good_one(wing, data, capacity):
    lengths = np.array(data.draw(st.lists(st.integers(1, capacity), min_size=1, max_size=40)))
    row, start = (plain(x) for x in wing.module("data.packing").best_fit_decreasing(lengths, capacity))
    rows = row.max() + 1
    assert set(row) == set(range(rows))
    for number in range(rows):
        inside = sorted((start[i], lengths[i]) for i in np.flatnonzero(row == number))
        ends = np.cumsum([length for _, length in inside])
        assert [first for first, _ in inside] == [0, *ends[:-1]] and ends[-1] <= capacity  # side by side from 0 on
    used = np.bincount(row, lengths)
    assert all(used[a] + used[b] > capacity for a in range(rows) for b in range(a))  # or one of them were not needed

    def rows_needed(number, room):
        """The fewest rows for the texts from ``number`` on, beside those that have room left: by trying all."""
        if number == len(lengths):
            return len(room)
        fitting = {r: i for i, r in enumerate(room) if r >= lengths[number]}
        tries = [room[:i] + (r - lengths[number],) + room[i + 1 :] for r, i in fitting.items()]
        return min(rows_needed(number + 1, one) for one in [*tries, (*room, capacity - lengths[number])])

    if len(lengths) <= 6:
        assert rows == rows_needed(0, ()) or rows == 1 + rows_needed(0, ()) >= 3  # so few texts are never off by much


@both
def test_texts_and_rows_that_do_not_fit(wing):
    packing = wing.module("data.packing")
    for lengths, capacity in (([5, 3], 4), ([0, 1], 4)):
        with pytest.raises(UserError, match="from 1 to 4"):
            packing.best_fit_decreasing(np.array(lengths), capacity)
    with pytest.raises(UserError, match="rows? of 4"):
        batch_of(wing, *texts(), np.arange(3), 4, packed=False)
    row, start = packing.best_fit_decreasing(np.array([], np.int64), 4)
    assert len(row) == len(start) == 0
