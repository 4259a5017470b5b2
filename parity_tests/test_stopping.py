"""How a run ends before its time: steps that go wrong, signals, a time budget; and how it goes on."""

import dataclasses
import signal

import numpy as np
import pytest

from numpy_ref import checkpoint_file, interrupt, log
from numpy_ref.checkpoint_file import NAME
from numpy_ref.errors import UserError
from numpy_ref.interrupt import Interrupted
from parity_tests.children import PATIENCE, running, wait_for
from parity_tests.test_loop import MODEL, dataset, train
from parity_tests.test_saving import FEW, both
from parity_tests.trained import SMALL, run


def bad_steps(monkeypatch, wing, bad, how):
    """train_step with bad steps: "nan" leaves the weights as they were, "skipped" says so and has a finite loss."""
    loop = wing.module("training.loop")
    step = loop.train_step

    def broken(params, states, inputs, targets, model, settings, number):
        if number + 1 not in bad:
            return step(params, states, inputs, targets, model, settings, number)
        skipped = wing.array(np.array(True)) if how == "skipped" else None
        metrics = {"loss": wing.array(np.array(1.5 if skipped is not None else np.nan)), "lr": 0.1, "grad_norm": np.inf}
        return metrics | ({} if skipped is None else {"skipped": skipped}), params, states

    monkeypatch.setattr(loop, "train_step", broken)


@pytest.mark.parametrize("how", ["nan", "skipped"])
@both
def test_bad_steps_are_skipped_and_counted(tmp_path, wing, monkeypatch, how):
    bad_steps(monkeypatch, wing, {3, 4, 7, 8, 9}, how)
    run = train(wing, MODEL, dataclasses.replace(FEW, bad_steps=4), dataset(), tmp_path)
    rows = log.read_rows(tmp_path / log.NAME)
    assert run.step == 12 and [row["step"] for row in rows if row.get("skipped")] == [3, 4, 7, 8, 9]
    assert len(rows) == 12 and all((row["loss"] is None) == (how == "nan") for row in rows if row.get("skipped"))
    assert "NaN" not in (tmp_path / log.NAME).read_text()


@both
def test_too_many_bad_steps_name_the_last_good_checkpoint(tmp_path, wing, monkeypatch):
    bad_steps(monkeypatch, wing, range(5, 99), "nan")
    settings = dataclasses.replace(FEW, save_every=4, bad_steps=3)
    with pytest.raises(UserError, match="3 times in a row, up to step 7.*last good checkpoint is .*npz, step 4") as error:
        train(wing, MODEL, settings, dataset(), tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path / NAME) in str(error.value)
    assert [row["step"] for row in log.read_rows(tmp_path / log.NAME)] == [1, 2, 3, 4, 5, 6, 7]
    assert checkpoint_file.read(tmp_path)[1]["step"] == 4


@both
def test_bad_steps_before_any_checkpoint(tmp_path, wing, monkeypatch):
    bad_steps(monkeypatch, wing, range(1, 99), "nan")
    with pytest.raises(UserError, match="10 times in a row, up to step 10.*there is no checkpoint yet"):
        train(wing, MODEL, dataclasses.replace(FEW, save_every=0), dataset(), tmp_path)


@both
def test_bad_steps_are_counted_across_sessions(tmp_path, wing, monkeypatch):
    bad_steps(monkeypatch, wing, {4, 5, 6}, "nan")
    settings = dataclasses.replace(FEW, bad_steps=3)
    train(wing, MODEL, settings, dataset(), tmp_path, stop_after=5)
    with pytest.raises(UserError, match="up to step 6"):
        train(wing, MODEL, settings, dataset(), tmp_path, resume=True)


@both
def test_sigterm_saves_and_says_how_to_go_on(tmp_path, wing):
    argv = ("train", *SMALL, "--data", "samples", "--out", tmp_path, "--steps", 10**6, "--eval-every", 0)
    with running(wing, *argv) as process:
        wait_for(lambda: log.read_rows(tmp_path / log.NAME), process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143 and "Traceback" not in err and out == ""
    assert f"python -m {wing} train --resume --out {tmp_path}" in err
    assert log.read_rows(tmp_path / log.NAME)[-1]["step"] == checkpoint_file.read(tmp_path)[1]["step"]


@both
def test_sigterm_waits_for_the_step(tmp_path, wing, monkeypatch):
    loop = wing.module("training.loop")
    step = loop.train_step

    def ended(*arguments):
        if arguments[-1] == 3:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(loop, "train_step", ended)
    with pytest.raises(Interrupted) as stop:
        train(wing, MODEL, FEW, dataset(), tmp_path)
    assert stop.value.status == 143 and stop.value.step == 4 and checkpoint_file.read(tmp_path)[1]["step"] == 4
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_does_not_wait():
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)):
        with pytest.raises(kind), interrupt.interruptible() as asked:
            signal.raise_signal(number)
            assert asked() == number
            signal.raise_signal(number)


def test_time_is_over_before_it_is_over(monkeypatch):
    """The slowest step twice, and the save, have to fit into what is left."""
    now = [100.0]
    monkeypatch.setattr(interrupt, "perf_counter", lambda: now[0])
    with interrupt.interruptible(10) as asked:
        for seconds, reserve, expected in ((1, 0, None), (3, 0.5, interrupt.TIME)):
            now[0] += seconds
            assert asked(reserve) == expected
    with interrupt.interruptible(None) as asked:
        now[0] += 1e9
        assert asked() is None


@both
def test_a_time_budget_saves_and_ends_well(tmp_path, wing, capsys):
    arguments = ("train", *SMALL, "--data", "samples", "--out", tmp_path, "--steps", 10**6, "--eval-every", 0)
    assert run(wing, *arguments, "--time-budget", 2) == 0
    err = capsys.readouterr().err
    step = checkpoint_file.read(tmp_path)[1]["step"]
    assert 0 < step < 10**6 and "time budget of 2 s ends: stopped after step" in err and "--resume" in err
    assert run(wing, "train", "--resume", "--out", tmp_path, "--steps", step + 1) == 0
    assert "done" in capsys.readouterr().err
