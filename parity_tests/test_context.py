"""Words in context beyond the agreement of both sides: no future, known answers, training, the reading of pseudo-words."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.config import TrainConfig
from numpy_ref.context.config import KINDS, ContextConfig, parameter_count, parameter_shapes
from numpy_ref.context.words import Examples, pseudo_words
from numpy_ref.errors import UserError
from parity_tests.components.block import random_parameters
from parity_tests.trained import run
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)
every = pytest.mark.parametrize("kind", KINDS)


def small(kind, **more):
    return ContextConfig(kind, **{"vocab_size": 12, "pairs": 3, "width": 8, "heads": 2, "span": 4} | more)


def random_params(config, seed=0):
    return random_parameters(np.random.default_rng(seed), parameter_shapes(config))


# -- no future, and no more past than promised --------------------------------------------------------------------


@both
@every
@given(seed=st.integers(0, 2**32 - 1))
def test_no_vector_depends_on_what_follows(wing, kind, seed):
    """Whatever stands behind place t, and even whether anything does, the vectors up to t are the same."""
    rng = np.random.default_rng(seed)
    config, x = small(kind), rng.standard_normal((2, 7, 8))
    params, t = random_params(config, seed), int(rng.integers(1, 7))
    whole = wing.call("context.senses", "contextual", x, params, config)
    other = x.copy()
    other[:, t:] = rng.standard_normal(other[:, t:].shape)
    for text in (other, x[:, :t]):
        found = wing.call("context.senses", "contextual", text, params, config)
        np.testing.assert_allclose(found[:, :t], whole[:, :t], rtol=1e-9, atol=1e-9)


@every
@pytest.mark.parametrize("last", [1, 3, 7])
def test_the_last_places_alone_are_what_they_are_in_the_whole(kind, last):
    """The fast side's short cut for models that are asked about the last word: values and gradients."""
    config, rng, wing = small(kind), np.random.default_rng(4), WINGS[1]
    params, x = wing.array(random_params(config)), wing.array(rng.standard_normal((2, 7, 8))).requires_grad_()
    contextual, dy = wing.module("context.senses").contextual, wing.array(rng.standard_normal((2, last, 8)))
    short, whole = contextual(x, params, config, last), contextual(x, params, config)[:, -last:]
    np.testing.assert_allclose(short.detach().numpy(), whole.detach().numpy(), rtol=1e-10, atol=1e-12)
    grads = [torch.autograd.grad(y, x, dy)[0].numpy() for y in (short, whole)]
    np.testing.assert_allclose(grads[0], grads[1], rtol=1e-9, atol=1e-12)


@both
@pytest.mark.parametrize("name", ["past_mean", "past_attention"])
def test_context_is_the_last_words_and_not_the_word_itself(wing, name):
    """A change at s moves the context of s + 1 ... s + span, of none other; the first word has none."""
    config = small("gate", span=3)
    params = {key.removeprefix("past."): value for key, value in random_params(config).items() if key.startswith("past.")}
    params["query.weight"] *= 0.0  # the word itself asks, but it is no part of the answer
    x = np.random.default_rng(0).standard_normal((1, 9, 8))
    more = (3,) if name == "past_mean" else (params, 2)
    whole = wing.call("context.past", name, x, *more)
    assert not whole[:, 0].any()
    other = x.copy()
    other[:, 2] += 1.0
    moved = np.abs(wing.call("context.past", name, other, *more) - whole).max(-1)[0] > 1e-9
    assert moved.tolist() == [False] * 3 + [True] * 3 + [False] * 3


@both
def test_equal_scores_are_the_mean(wing):
    """Attention without preferences, and with identities for values and output, is the mean over the past."""
    eye = np.eye(8)
    params = {"query.weight": 0 * eye, "key_value.weight": np.concatenate([eye, eye]), "output.weight": eye, "distance.weight": np.zeros((2, 3))}
    x = np.random.default_rng(0).standard_normal((2, 6, 8))
    mean = wing.call("context.past", "past_mean", x, 3)
    np.testing.assert_allclose(wing.call("context.past", "past_attention", x, params, 2), mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean[:, 2], x[:, :2].mean(1), rtol=1e-12)


@both
def test_a_distance_can_pick_one_word(wing):
    eye = np.eye(8)
    distance = np.tile([0.0, 900.0, 0.0], (2, 1))
    params = {"query.weight": eye, "key_value.weight": np.concatenate([eye, eye]), "output.weight": eye, "distance.weight": distance}
    x = np.random.default_rng(0).standard_normal((1, 6, 8))
    np.testing.assert_allclose(wing.call("context.past", "past_attention", x, params, 2)[:, 2:], x[:, :-2], rtol=1e-10)


# -- known answers ------------------------------------------------------------------------------------------------


@both
def test_information_of_perfect_and_of_useless_guesses(wing):
    pairs, senses = np.repeat([0, 1], 50), np.tile([0, 1], 50)
    for guesses, nats in ((senses, math.log(2)), (1 - senses, math.log(2)), (np.zeros(100, int), 0.0)):
        found = wing.call("context.evaluate", "mutual_information", pairs, senses, guesses, 3)
        assert float(found) == pytest.approx(nats, abs=1e-12)


@both
def test_static_vectors_can_only_learn_the_prior(wing):
    """The scores are those of the pair, whatever stands before it."""
    config, rng = small("static"), np.random.default_rng(0)
    params, tokens = random_params(config), rng.integers(0, 12, (6, 5))
    tokens[:, -1] = 3
    logits = wing.call("context.senses", "sense_model", tokens, np.ones(6, int), params, config)
    assert np.ptp(logits, axis=0).max() < 1e-12


# -- training -----------------------------------------------------------------------------------------------------


def toy_examples(count, seed):
    """The word two places back says which it was; the one before it misleads."""
    rng = np.random.default_rng(seed)
    senses, pairs = rng.integers(0, 2, count), rng.integers(0, 3, count)
    tokens = rng.integers(7, 12, (count, 5))
    tokens[:, 2], tokens[:, 3], tokens[:, 4] = 5 + senses, rng.integers(5, 7, count), 2 + pairs
    return Examples(tokens, pairs, senses)


@every
def test_both_sides_train_to_the_same_weights(kind):
    config, train = small(kind, init_std=0.5), TrainConfig(steps=7, batch=16, lr=0.02, warmup=2, eval_every=3, dtype="float64", device="cpu")
    learnt, judged, ends, told = toy_examples(50, 0), toy_examples(30, 1), [], []
    for wing in WINGS:
        params, rows = wing.module("context.loop").train_senses(config, train, learnt, judged, told.append)
        assert [row["step"] for row in rows] == [3, 6, 7]
        ends.append(({name: np.asarray(value) for name, value in params.items()}, rows))
    for name, value in ends[0][0].items():
        np.testing.assert_allclose(ends[1][0][name], value, rtol=1e-6, atol=1e-9, err_msg=name)
    for one, other in zip(ends[0][1], ends[1][1]):
        assert one["accuracy"] == other["accuracy"] and one["loss"] == pytest.approx(other["loss"], rel=1e-9)
        assert one["information"] == pytest.approx(other["information"], rel=1e-9, abs=1e-12) and one["by_pair"] == other["by_pair"]
    arguments = (learnt.tokens, learnt.pairs, learnt.senses)
    losses = []
    for wing in WINGS:
        step = wing.module("context.step")
        losses.append(float(step.loss_and_grads(wing.array(ends[0][0]), *wing.array(arguments), config)[0]))
        states = wing.module("training.optimizer").init_states(wing.array(ends[0][0]), train)
        metrics, _, _ = step.train_step(wing.array(ends[0][0]), states, *wing.array(arguments), config, train, 0.01)
        assert float(metrics["loss"]) == pytest.approx(losses[-1], rel=1e-12)
        measured = wing.module("context.evaluate").measure(wing.array(ends[0][0]), config, *wing.array(arguments), 20)
        assert measured["loss"] == pytest.approx(losses[-1], rel=1e-9)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_attention_finds_what_a_mean_can_not():
    """In the toy two words of the context speak for opposite senses; only their places tell which one to believe."""
    train = TrainConfig(steps=100, batch=32, lr=0.03, warmup=5, eval_every=0, weight_decay=0.0, device="cpu")
    found = {}
    for kind in ("static", "bag", "gate"):
        config = small(kind, init_std=0.5)
        found[kind] = WINGS[1].module("context.loop").train_senses(config, train, toy_examples(600, 0), toy_examples(300, 1))[1][-1]
    assert found["gate"]["accuracy"] > 0.95 and found["gate"]["information"] > 0.5
    assert found["bag"]["accuracy"] < 0.85 and found["static"]["accuracy"] < 0.65


# -- reading ------------------------------------------------------------------------------------------------------


def test_pseudo_words_are_two_words_under_one_id():
    config = ContextConfig(vocab_size=900, pairs=20)
    train, held_out, pairs = pseudo_words("pydoc", config)
    assert len(pairs) == 20 and len({word for pair in pairs for word in pair}) == 40
    for side in (train, held_out):
        assert side.tokens.shape == (len(side), 13) and side.tokens.min() >= 0 and side.tokens.max() < 900
        assert np.array_equal(side.tokens[:, -1], side.pairs + 2) and set(side.senses) == {0, 1}
    assert len(train) > 2 * len(held_out) > 500
    share = np.bincount(train.senses) / len(train)
    assert 0.3 < share[0] < 0.7  # words of equal frequency


def test_a_text_worked_by_hand(tmp_path):
    """Thirty common words, then the pair "left" and "right", in documents of which every fifth is held out."""
    common = " ".join(f"common{chr(97 + n)}{chr(97 + n)}" for n in range(25)) + " aa bb cc dd ee "
    for number in range(10):
        words = common * 150 + "aa left bb right " * 60
        (tmp_path / f"{number:02}.txt").write_text(words)
    train, held_out, pairs = pseudo_words(tmp_path, ContextConfig(vocab_size=40, pairs=1, span=1))
    assert pairs == [("left", "right")] and len(train) == 960 and len(held_out) == 240
    before = {int(row[0]): int(sense) for row, sense in zip(train.tokens, train.senses)}
    assert sorted(before.values()) == [0, 1]  # "aa" stands before one of them, "bb" before the other


# -- the command --------------------------------------------------------------------------------------------------

TINY = ("--steps", 2, "--batch", 8, "--eval-every", 0, "--width", 4, "--heads", 2, "--pairs", 3, "--vocab-size", 50, "--span", 2)


@both
def test_the_experiment_reports_and_goes_on(wing, tmp_path, capsys):
    out = tmp_path / "context"
    assert run(wing, "context", "--out", out, "--time-budget", 1e-9, "--seeds", 1, "--device", "cpu", *TINY) == 0
    assert not (out / "report.md").exists() and "0 of 5" in capsys.readouterr().err
    assert run(wing, "context", "--out", out, "--resume") == 0
    assert all(f"| {kind} | " in (out / "report.md").read_text() for kind in KINDS) and (out / "accuracy.png").exists()
    lines = (out / "results.jsonl").read_text().splitlines()
    (out / "results.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])  # cut off by a crash
    assert run(wing, "context", "--out", out, "--resume") == 0
    again = (out / "results.jsonl").read_text().splitlines()
    assert again[:-1] == lines[:-1] and json.loads(again[-1])["rows"] == json.loads(lines[-1])["rows"]
    assert capsys.readouterr().out.count("# Words in context") == 2
    for options, words in (
        ((), "already holds"), (("--resume", "--span", 3), "span=2, not 3"), (("--resume", "--data", "samples"), "source='pydoc'"),
    ):  # fmt: skip
        assert run(wing, "context", "--out", out, *options) == 2
        assert words in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert run(wing, "context", "--out", tmp_path / "other", "--seeds", 0) == 2 and "--seeds 0" in capsys.readouterr().err
    assert run(wing, "context", "--out", tmp_path / "none", "--resume") == 2 and "no context.json" in capsys.readouterr().err


BAD = {
    "unknown kind": ({"kind": "magic"}, "kind='magic'"),
    "no words before": ({"span": 0}, "span=0"),
    "heads that do not fit": ({"width": 10, "heads": 4}, "no multiple"),
    "odd heads": ({"kind": "plain", "width": 6, "heads": 2}, "even number"),
    "no deviation": ({"init_std": 0.0}, "init_std"),
}


@pytest.mark.parametrize("options, words", BAD.values(), ids=BAD)
def test_settings_that_cannot_be_are_one_clear_line(options, words):
    with pytest.raises(UserError) as error:
        ContextConfig(**options)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_texts_that_are_too_short_are_one_clear_line(tmp_path):
    (tmp_path / "short.txt").write_text("a few words only")
    for source, pairs in ((tmp_path, 1), ("samples", 500)):
        with pytest.raises(UserError, match="too few words"):
            pseudo_words(source, ContextConfig(pairs=pairs))


def test_the_plain_model_is_as_large_as_the_gate():
    plain, gate = (parameter_count(ContextConfig(kind), embedding=False) for kind in ("plain", "gate"))
    assert abs(plain - gate) < 0.01 * gate
    for kind in KINDS:
        config = small(kind)
        assert parameter_count(config) == sum(value.size for value in random_params(config).values())
