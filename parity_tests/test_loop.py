"""Whole runs: the wings train alike, a run goes on where it stopped, on either wing, and says what it does."""

import dataclasses
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from numpy_ref import log
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError
from numpy_ref.interrupt import Interrupted
from parity_tests.wings import WINGS, plain

NAMES = [str(wing) for wing in WINGS]
ADAMW = TrainConfig(
    steps=50, batch=4, lr=1e-2, warmup=5, eval_every=20, eval_tokens=64, save_every=25, dtype="float64", device="cpu"
)
MUON = dataclasses.replace(ADAMW, optimizer="muon", lr=2e-2)
MODEL = ModelConfig(vocab_size=32, context=12, layers=2, width=16, heads=2, feed_forward=32, dropout=0.1)
POST = dataclasses.replace(MODEL, norm_position="post", positions="learned", tie_embeddings=True, attention_bias=True)


def dataset():
    """Tokens with something to learn: each follows from the one before, with noise."""
    rng = np.random.default_rng(0)
    tokens = np.cumsum(rng.choice([1, 3, 7], p=[0.7, 0.2, 0.1], size=2000)) % 32
    return SimpleNamespace(train=tokens[:1800].astype(np.uint8), validation=tokens[1800:].astype(np.uint8))


def train(wing, *arguments, **keywords):
    return wing.module("training.loop").train(*arguments, **keywords)


def assert_same(one, other, tolerance):
    """All weights and optimiser states of two Runs agree; tolerance 0: bit for bit, types included."""
    for a, b in ((one.params, other.params), *((one.states[name], other.states[name]) for name in one.params)):
        assert list(a) == list(b)
        for name, value in plain(a).items():
            theirs = plain(b[name])
            assert np.shape(value) == np.shape(theirs)
            if tolerance == 0:
                assert type(value) is type(theirs) and np.asarray(value).tobytes() == np.asarray(theirs).tobytes(), name
            else:
                assert np.abs(np.asarray(value) - np.asarray(theirs)).max() <= tolerance, name


def rows_of(folder, without=("time", "tokens_per_second")):
    return [{k: v for k, v in row.items() if k not in without} for row in log.read_rows(folder / log.NAME)]


@pytest.mark.parametrize("settings", [ADAMW, MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("model", [MODEL, POST], ids=["pre", "post"])
def test_fifty_steps_are_the_same_on_both_sides(tmp_path, model, settings):
    runs = [train(wing, model, settings, dataset(), tmp_path / str(wing)) for wing in WINGS]
    assert_same(*runs, tolerance=1e-9)
    ours, theirs = (rows_of(tmp_path / name) for name in NAMES)
    assert [list(row) for row in ours] == [list(row) for row in theirs] and len(ours) == 50
    for row, other in zip(ours, theirs):
        assert all(abs(row[name] - other[name]) < 1e-9 for name in row)
    assert np.mean([row["loss"] for row in ours[-5:]]) < np.mean([row["loss"] for row in ours[:5]]) - 0.1


@pytest.mark.parametrize("first, second", [WINGS, WINGS[::-1]], ids=["numpy_then_torch", "torch_then_numpy"])
@pytest.mark.parametrize("settings", [ADAMW, MUON], ids=["adamw", "muon"])
def test_a_run_begun_on_one_side_ends_the_same_on_the_other(tmp_path, first, second, settings):
    whole = train(first, MODEL, settings, dataset(), tmp_path / "whole")
    train(first, MODEL, settings, dataset(), tmp_path / "parts", stop_after=25)
    ended = train(second, MODEL, settings, dataset(), tmp_path / "parts", resume=True)
    assert ended.step == 50 and ended.tokens == whole.tokens and ended.position == whole.position
    assert_same(whole, ended, tolerance=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_interrupted_and_resumed_is_bit_identical(tmp_path, wing, dtype):
    settings = dataclasses.replace(MUON, steps=24, dtype=dtype, eval_every=8)
    whole = train(wing, MODEL, settings, dataset(), tmp_path / "whole")
    for stop in (7, 16, None):
        parts = train(wing, MODEL, settings, dataset(), tmp_path / "parts", resume=stop != 7, stop_after=stop)
    assert_same(whole, parts, tolerance=0)
    assert rows_of(tmp_path / "parts") == rows_of(tmp_path / "whole")
    times = [row["time"] for row in log.read_rows(tmp_path / "parts" / log.NAME)]
    assert times == sorted(times)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_resumes_bit_identically(tmp_path, dtype):
    wing = WINGS[1]
    settings = dataclasses.replace(ADAMW, steps=12, dtype=dtype, eval_every=0)
    whole = train(wing, MODEL, settings, dataset(), tmp_path / "whole")
    train(wing, MODEL, settings, dataset(), tmp_path / "parts", stop_after=5)
    parts = train(wing, MODEL, settings, dataset(), tmp_path / "parts", resume=True)
    assert_same(whole, parts, tolerance=0)
    assert whole.states.get("loss_scale") == parts.states.get("loss_scale")
    assert ("loss_scale" in whole.states) == (dtype == "float16")


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_rows_after_the_last_checkpoint_are_written_anew(tmp_path, wing):
    """A crash loses the steps since the last checkpoint; their rows, and half a line, go when the run resumes."""
    settings = dataclasses.replace(ADAMW, steps=6)
    train(wing, MODEL, settings, dataset(), tmp_path, stop_after=4)
    with open(tmp_path / log.NAME, "a") as file:
        file.write(json.dumps({"step": 5, "loss": 0.0}) + '\n{"step": 6, "lo')
    train(wing, MODEL, settings, dataset(), tmp_path, resume=True)
    assert [row["step"] for row in log.read_rows(tmp_path / log.NAME)] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss"] > 0 for row in log.read_rows(tmp_path / log.NAME))


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_the_log_carries_every_field(tmp_path, wing):
    seen = []
    train(wing, MODEL, dataclasses.replace(ADAMW, steps=5, eval_every=2), dataset(), tmp_path,
          report=SimpleNamespace(update=seen.append))
    rows = log.read_rows(tmp_path / log.NAME)
    always = {"step", "tokens", "time", "loss", "lr", "grad_norm", "tokens_per_second"}
    assert [set(row) - always for row in rows] == [set(), {"val_loss"}, set(), {"val_loss"}, {"val_loss"}]
    assert all(always <= set(row) for row in rows)
    assert [row["tokens"] for row in rows] == [4 * 12 * n for n in (1, 2, 3, 4, 5)]
    assert seen[-1] == rows[-1] and all(row["tokens_per_second"] > 0 for row in rows)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"] == dataclasses.asdict(MODEL) and config["train"]["steps"] == 5


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path, wing, monkeypatch):
    loop = wing.module("training.loop")
    step = loop.train_step

    def broken(params, states, inputs, targets, model, settings, number):
        metrics, params, states = step(params, states, inputs, targets, model, settings, number)
        return (metrics | {"loss": float("nan")} if number == 5 else metrics), params, states

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(UserError, match="not finite, up to step 6"):
        train(wing, MODEL, dataclasses.replace(ADAMW, save_every=3, bad_steps=1), dataset(), tmp_path)
    assert wing.module("training.checkpoint").load(tmp_path).step == 3
    assert [row["loss"] is None for row in log.read_rows(tmp_path / log.NAME)] == [False] * 5 + [True]


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_ctrl_c_saves_the_finished_step(tmp_path, wing, monkeypatch):
    loop = wing.module("training.loop")
    step, settings = loop.train_step, dataclasses.replace(ADAMW, steps=8)

    def pressed(*arguments):
        if arguments[-1] == 3:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stop:
        patch.setattr(loop, "train_step", pressed)
        train(wing, MODEL, settings, dataset(), tmp_path / "parts")
    assert stop.value.step == 4 and signal.getsignal(signal.SIGINT) is before
    parts = train(wing, MODEL, settings, dataset(), tmp_path / "parts", resume=True)
    assert_same(train(wing, MODEL, settings, dataset(), tmp_path / "whole"), parts, tolerance=0)


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_resuming_needs_the_same_model_and_a_checkpoint(tmp_path, wing):
    with pytest.raises(UserError, match="no checkpoint"):
        train(wing, MODEL, ADAMW, dataset(), tmp_path, resume=True)
    train(wing, MODEL, dataclasses.replace(ADAMW, steps=2), dataset(), tmp_path)
    with pytest.raises(UserError, match="another model"):
        train(wing, POST, ADAMW, dataset(), tmp_path, resume=True)


@pytest.mark.parametrize("model", [MODEL, POST], ids=["pre", "post"])
def test_attention_maps_agree_and_are_distributions(model):
    params = WINGS[0].call("model.initialise", "initialise", model, 0, np.float64)
    params = {name: value * 20 if value.ndim == 2 else value for name, value in params.items()}  # heads that choose
    tokens = dataset().train[:9]
    ours, theirs = (wing.call("inference.attention_maps", "attention_maps", tokens, params, model) for wing in WINGS)
    assert ours.shape == (2, 2, 9, 9) and np.abs(ours - theirs).max() < 1e-12
    assert np.allclose(ours.sum(-1), 1) and not np.triu(ours, 1).any()
    assert ours.max(-1)[..., -1].max() > 0.2
