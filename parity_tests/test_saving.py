"""Long runs lose nothing: which checkpoints stay, what a damaged one falls back to, and what a full disk costs."""

import dataclasses
import os
import resource
import threading
import time
import warnings
from types import SimpleNamespace

import pytest

from numpy_ref import checkpoint_file, files, log, saving
from numpy_ref.checkpoint_file import NAME
from numpy_ref.errors import DiskError, RunWarning, UserError
from parity_tests.children import PATIENCE
from parity_tests.test_checkpoint import contents, load, run_of
from parity_tests.test_loop import ADAMW, MODEL, assert_same, dataset, rows_of, train
from parity_tests.wings import WINGS

NAMES = [str(wing) for wing in WINGS]
both = pytest.mark.parametrize("wing", WINGS, ids=NAMES)
FEW = dataclasses.replace(ADAMW, steps=12, eval_every=0, save_every=2, keep=3)


def steps_of(folder):
    """The steps of all checkpoints in a folder, newest first, as their headers say."""
    older = checkpoint_file.history(folder)
    assert all(checkpoint_file.read(file)[1]["step"] == step for step, file in older)
    return [checkpoint_file.read(folder / NAME)[1]["step"], *(step for step, _ in older)]


@both
def test_the_newest_stay_and_the_best(tmp_path, wing, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, float("nan"), 1.5, 1.25])
    monkeypatch.setattr(wing.module("training.loop"), "evaluate", lambda *_, **__: {"loss": next(losses)})
    run = train(wing, MODEL, dataclasses.replace(FEW, eval_every=2, keep=2), dataset(), tmp_path)
    assert steps_of(tmp_path) == [12, 10, 4] and run.best == {"step": 4, "val_loss": 1.0}
    assert checkpoint_file.read(tmp_path)[1]["best"] == run.best
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == [
        "checkpoint-00000004.npz", "checkpoint-00000010.npz", NAME]


@both
def test_the_best_is_saved_when_it_is_found(tmp_path, wing, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 9.0])
    monkeypatch.setattr(wing.module("training.loop"), "evaluate", lambda *_, **__: {"loss": next(losses)})
    train(wing, MODEL, dataclasses.replace(FEW, eval_every=3, save_every=0, keep=1), dataset(), tmp_path)
    assert steps_of(tmp_path) == [12, 6]


@both
def test_what_is_saved_does_not_change_while_training_goes_on(tmp_path, wing, monkeypatch):
    """Every checkpoint of a run that saves at every step, slowly, is that of a run that stopped there."""
    write = saving.write
    monkeypatch.setattr(saving, "write", lambda *arguments, **more: (time.sleep(0.01), write(*arguments, **more)))
    train(wing, MODEL, dataclasses.replace(FEW, steps=6, save_every=1, keep=9), dataset(), tmp_path / "whole")
    assert steps_of(tmp_path / "whole") == [6, 5, 4, 3, 2, 1]
    for stop in (2, 5):
        train(wing, MODEL, dataclasses.replace(FEW, steps=6, keep=1), dataset(), tmp_path / f"{stop}", stop_after=stop)
        assert_same(load(wing, tmp_path / f"{stop}"), load(wing, checkpoint_file.named(tmp_path / "whole", stop)), 0)


@both
def test_a_snapshot_is_a_copy(wing):
    run = run_of(wing)
    before = contents(run)
    arrays, header = wing.module("training.checkpoint").snapshot(run)
    for value in arrays.values():
        assert value.flags.owndata or value.base is not None
        value += 1
    assert contents(run) == before and header["step"] == run.step


def test_training_does_not_wait_for_a_save(tmp_path):
    """At most one save is in flight: a second waits for the first, steps do not."""
    arrays, header = WINGS[0].module("training.checkpoint").snapshot(run_of(WINGS[0]))
    gate, done = threading.Event(), []
    saver = saving.Saver(tmp_path, 3, pytest.fail)
    saver._write = lambda *_: (gate.wait(PATIENCE), done.append(1))
    with saver:
        saver.save(None, lambda _: (arrays, header))
        for _ in range(100):
            saver.check()
        assert not done
        threading.Timer(0.05, gate.set).start()
        saver.save(None, lambda _: (arrays, header))
        assert done
    assert len(done) == 2


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "gone"])
@both
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, wing, damage):
    settings = dataclasses.replace(FEW, steps=8, dtype="float32")
    whole = train(wing, MODEL, settings, dataset(), tmp_path / "whole")
    parts = tmp_path / "parts"
    train(wing, MODEL, settings, dataset(), parts, stop_after=6)
    content = (parts / NAME).read_bytes()
    place = content.index(b"output.weight.npy") + 200
    altered = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    new = {"truncated": content[: len(content) // 2], "altered": altered, "empty": b"", "gone": None}[damage]
    (parts / NAME).unlink() if new is None else (parts / NAME).write_bytes(new)
    with pytest.warns(RunWarning, match="going back to checkpoint-00000004.npz, step 4"):
        assert checkpoint_file.read(parts)[1]["step"] == 4
    with pytest.warns(RunWarning):
        ended = train(wing, MODEL, settings, dataset(), parts, resume=True)
    assert_same(whole, ended, 0)
    assert rows_of(parts) == rows_of(tmp_path / "whole")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint_file.read(parts)[1]["step"] == 8


def test_a_damaged_checkpoint_does_not_stay(tmp_path):
    """The next save may be of a later step: what is damaged must not take the place of what is whole."""
    train(WINGS[0], MODEL, FEW, dataset(), tmp_path, stop_after=6)
    content = bytearray((tmp_path / NAME).read_bytes())
    content[content.index(b"output.weight.npy") + 200] ^= 1
    (tmp_path / NAME).write_bytes(content)
    with pytest.warns(RunWarning, match="step 4"):
        train(WINGS[0], MODEL, dataclasses.replace(FEW, save_every=4, keep=2), dataset(), tmp_path, resume=True, stop_after=8)
    assert steps_of(tmp_path) == [8, 4]


def test_with_no_checkpoint_whole_the_newest_is_named(tmp_path):
    train(WINGS[0], MODEL, FEW, dataset(), tmp_path)
    for file in tmp_path.glob("checkpoint*"):
        file.write_bytes(file.read_bytes()[:99])
    with pytest.raises(UserError, match="checkpoint.npz is truncated"):
        checkpoint_file.read(tmp_path)


def test_a_run_that_was_taken_back_writes_its_future_anew(tmp_path):
    train(WINGS[0], MODEL, FEW, dataset(), tmp_path, stop_after=8)
    (tmp_path / NAME).write_bytes(checkpoint_file.named(tmp_path, 4).read_bytes())
    train(WINGS[0], MODEL, FEW, dataset(), tmp_path, resume=True, stop_after=6)
    assert steps_of(tmp_path) == [6, 4]


def test_a_kill_between_the_names_loses_nothing(tmp_path, monkeypatch):
    train(WINGS[0], MODEL, FEW, dataset(), tmp_path, stop_after=4)
    arrays, header = checkpoint_file.read(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.os, "replace", killed)
        saving.write(tmp_path, arrays, header | {"step": 6}, 3)
    assert steps_of(tmp_path) == [4, 4, 2] and not list(tmp_path.glob("*.partial"))
    saving.write(tmp_path, arrays, header | {"step": 6}, 3)
    assert steps_of(tmp_path) == [6, 4, 2]


def test_old_runs_stay_readable(tmp_path):
    """A checkpoint and settings from before these fields were there."""
    train(WINGS[0], MODEL, FEW, dataset(), tmp_path, stop_after=4)
    arrays, header = checkpoint_file.read(tmp_path)
    header.pop("best")
    for name in ("keep", "bad_steps", "pack_documents", "sample_every", "sample_prompt"):
        header["train"].pop(name)
    checkpoint_file.write(tmp_path / NAME, arrays, header)
    for wing in WINGS:
        assert load(wing, tmp_path).best is None
    assert train(WINGS[1], MODEL, FEW, dataset(), tmp_path, resume=True).step == 12


def test_names_reach_the_disk(tmp_path, monkeypatch):
    """The file and then its folder are synced, so that neither bytes nor name are lost with the power."""
    synced = []
    monkeypatch.setattr(files.os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    files.replace(tmp_path / "a", lambda file: file.write(b"x"))
    assert synced == [str(tmp_path / "a.partial"), str(tmp_path)]


# Full disks


@both
def test_a_full_disk_does_not_stop_training(tmp_path, wing, monkeypatch):
    """Saves at 2 and 4 fail, the one at 6 works; the file of before stays whole, and there is a line for each failure."""
    said, write = [], checkpoint_file.write

    def full(path, arrays, header, before=None):
        if header["step"] in (2, 4):
            raise DiskError("cannot write: No space left on device")
        write(path, arrays, header, before)

    monkeypatch.setattr(checkpoint_file, "write", full)
    report = SimpleNamespace(update=lambda row: None, note=said.append)
    run = train(wing, MODEL, FEW, dataset(), tmp_path, report=report)
    assert run.step == 12 and steps_of(tmp_path) == [12, 10, 8] and len(said) == 2
    assert all("No space left" in line and "training goes on" in line for line in said)


@both
def test_a_last_save_that_fails_is_an_error(tmp_path, wing):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    train(wing, MODEL, FEW, dataset(), tmp_path, stop_after=4)
    before = (tmp_path / NAME).read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(DiskError, match="cannot write"), pytest.warns(RunWarning, match="training goes on"):
            train(wing, MODEL, FEW, dataset(), tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / NAME).read_bytes() == before and not list(tmp_path.glob("*.partial"))
    assert train(wing, MODEL, FEW, dataset(), tmp_path, resume=True).step == 12


def test_rows_that_the_disk_refuses_wait(tmp_path):
    run, said = run_of(WINGS[0]), []
    report = SimpleNamespace(update=lambda row: None, note=said.append)
    with log.Log(tmp_path / log.NAME, run, report) as rows:
        file, rows.file = rows.file, SimpleNamespace(write=lambda content: (_ for _ in ()).throw(OSError(28, "No space left")))
        for step in (6, 7):
            run.step = step
            rows.add({"loss": 1.0, "lr": 0.1, "grad_norm": 1.0})
            rows.flush()
        assert len(said) == 1 and "No space left" in said[0]
        rows.file = file
    assert [row["step"] for row in log.read_rows(tmp_path / log.NAME)] == [6, 7]
    with pytest.raises(DiskError, match="No space left"), log.Log(tmp_path / log.NAME, run, report) as rows:
        rows.file.close()
        rows.file = SimpleNamespace(write=file_refuses, close=lambda: None)
        rows.unwritten = b"x"


def file_refuses(content):
    raise OSError(28, "No space left")


@both
def test_any_other_failure_of_a_save_ends_the_run(tmp_path, wing, monkeypatch):
    def broken(*_, **__):
        raise UserError("output.weight is not finite any more")

    monkeypatch.setattr(saving, "write", broken)
    with pytest.raises(UserError, match="not finite"):
        train(wing, MODEL, FEW, dataset(), tmp_path)
