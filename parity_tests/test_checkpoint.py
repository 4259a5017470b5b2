"""The checkpoint: both wings read what either wrote, and nothing that is damaged, altered or dangerous gets in."""

import builtins
import dataclasses
import errno
import json
import resource
import zipfile

import numpy as np
import pytest
import torch

from numpy_ref import checkpoint_file, files
from numpy_ref.checkpoint_file import NAME, Run
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError
from parity_tests.wings import WINGS, plain

NAMES = [str(wing) for wing in WINGS]
MODEL = ModelConfig(vocab_size=8, context=4, layers=1, width=4, heads=2, feed_forward=8)
TRAIN = TrainConfig(steps=7, optimizer="muon", lr=0.0123, dtype="float32", device="cpu")


def run_of(wing, dtype="float32"):
    """A Run with random weights and optimiser states."""
    rng = np.random.default_rng(1)
    dtype = np.dtype(dtype) if str(wing) == "numpy_ref" else getattr(torch, dtype)
    params = wing.module("model.initialise").initialise(MODEL, 3, dtype)
    states = wing.module("training.optimizer").init_states(params, TRAIN)
    for state in states.values():
        for field in state:
            state[field] = 5 if field == "step" else state[field] + rng.normal()
    return Run(MODEL, TRAIN, params, states, step=5, position=20, tokens=80, seconds=1.5)


def save(wing, folder, run):
    wing.module("training.checkpoint").save(folder, run)


def load(wing, folder, *arguments):
    return wing.module("training.checkpoint").load(folder, *arguments)


def contents(run):
    """Everything in a Run, as comparable values."""
    states = {name: {f: _bytes(v) for f, v in state.items()} for name, state in run.states.items()}
    numbers = (run.step, run.position, run.tokens, run.seconds)
    return {n: _bytes(v) for n, v in run.params.items()}, states, run.model_config, run.train_config, numbers


def _bytes(value):
    value = plain(value)
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else (type(value), value)


@pytest.fixture
def saved(tmp_path):
    save(WINGS[0], tmp_path, run_of(WINGS[0]))
    return tmp_path / NAME


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reader", WINGS, ids=lambda wing: f"read_by_{wing}")
@pytest.mark.parametrize("writer", WINGS, ids=lambda wing: f"written_by_{wing}")
def test_every_bit_comes_back(tmp_path, writer, reader, dtype):
    run = run_of(writer, dtype)
    run.states["loss_scale"] = {"scale": 1024.0, "good_steps": 3}
    run.states["ema"] = {name: value * 2 for name, value in run.params.items()}
    save(writer, tmp_path, run)
    for path in (tmp_path, tmp_path / NAME):
        back = load(reader, path)
        assert contents(back) == contents(run) and back.wing == str(writer).split("_")[0]
        assert list(back.params) == list(run.params) and set(back.states) == set(run.states)


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_a_dtype_can_be_asked_for(tmp_path, wing):
    save(wing, tmp_path, run_of(wing))
    back = load(wing, tmp_path, "float64")
    assert all(plain(value).dtype == np.float64 for value in back.params.values())
    assert all(type(state["step"]) is int for state in back.states.values() if "step" in state)


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_what_is_loaded_can_be_changed_in_place(tmp_path, wing):
    save(wing, tmp_path, run_of(wing))
    for value in load(wing, tmp_path).params.values():
        value += 1


def test_missing_empty_and_foreign_files(tmp_path):
    for path in (tmp_path, tmp_path / "no", tmp_path / "no.npz"):
        with pytest.raises(UserError, match="there is no checkpoint at"):
            checkpoint_file.read(path)
    contents = {b"": "is empty", b"hello": "is not a checkpoint", b"PK\x03\x04rest": "truncated or damaged"}
    for content, words in contents.items():
        (tmp_path / NAME).write_bytes(content)
        with pytest.raises(UserError, match=words):
            checkpoint_file.read(tmp_path)
    np.savez(tmp_path / NAME, a=np.zeros(3))
    with pytest.raises(UserError, match="truncated or damaged"):
        checkpoint_file.read(tmp_path)


def test_every_truncation_is_noticed(saved):
    whole = saved.read_bytes()
    for length in [*range(1, len(whole), len(whole) // 40), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated or damaged|is not a checkpoint"):
            checkpoint_file.read(saved)


def test_flipped_bits_are_noticed_or_harmless(saved):
    """A zip has fields that nobody reads (times, versions); a flip there may pass, with every array intact."""
    whole, good = saved.read_bytes(), contents(load(WINGS[0], saved))
    rng, noticed = np.random.default_rng(0), 0
    for _ in range(300):
        place = rng.integers(len(whole))
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.integers(8))]) + whole[place + 1 :])
        try:
            assert contents(load(WINGS[0], saved)) == good
        except UserError as error:
            noticed += 1
            assert "\n" not in str(error)
    assert noticed > 200


def rewritten(saved, change):
    """The archive made anew with other contents and correct CRCs: what a checksum is for."""
    with np.load(saved) as archive:
        arrays = dict(archive)
    header = json.loads(arrays.pop("header").tobytes())
    arrays, header = change(arrays, header)
    np.savez(saved, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)


def resealed(arrays, header):
    """With a checksum that fits, as another program would write it."""
    header = {name: value for name, value in header.items() if name != "sha256"}
    return arrays, header | {"sha256": checkpoint_file._checksum(arrays, header)}


WEIGHT = "model/token_embedding.weight"
CHANGES = {
    "one number": (lambda a, h: (a | {WEIGHT: a[WEIGHT] + 1e-3}, h), "altered"),
    "another dtype": (lambda a, h: (a | {WEIGHT: a[WEIGHT].astype(np.float64)}, h), "altered"),
    "an array less": (lambda a, h: ({name: v for name, v in a.items() if name != WEIGHT}, h), "altered"),
    "the header's step": (lambda a, h: (a, h | {"step": 6}), "altered"),
    "no checksum": (lambda a, h: (a, {name: v for name, v in h.items() if name != "sha256"}), "truncated or damaged"),
    "another version": (lambda a, h: resealed(a, h | {"format": 99}), "format 99; this version reads format 1"),
    "another width": (lambda a, h: resealed(a, h | {"model": h["model"] | {"width": 8}}), "of another config"),
    "another depth": (lambda a, h: resealed(a, h | {"model": h["model"] | {"layers": 2}}), "of another config"),
    "a wrong width": (lambda a, h: resealed(a, h | {"model": h["model"] | {"width": 5}}), "not divisible by heads"),
    "a strange field": (lambda a, h: resealed(a, h | {"model": h["model"] | {"colour": 5}}), "no field 'colour'"),
    "a strange array": (lambda a, h: resealed(a | {"extra": np.zeros(2)}, h), "of another config"),
    "a strange shape": (lambda a, h: resealed(a | {"optimizer/output.weight/m": np.zeros(2)}, h), "of another config"),
    "no step": (lambda a, h: resealed(a, {name: v for name, v in h.items() if name != "step"}), "lacks a setting"),
    "a negative step": (lambda a, h: resealed(a, h | {"step": -1}), "lacks a setting"),
}


@pytest.mark.parametrize("change, words", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_altered_files_are_refused(saved, wing, change, words):
    rewritten(saved, change)
    with pytest.raises(UserError, match=words) as error:
        load(wing, saved)
    assert "\n" not in str(error.value)


class Trap:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return open, ("sprung", "w")


def test_pickles_are_refused_unread(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with np.load(saved) as archive:
        arrays = dict(archive) | {WEIGHT: np.array([Trap()], dtype=object)}
    np.savez(saved, **arrays)
    with pytest.raises(UserError, match="pickled Python objects"):
        checkpoint_file.read(saved)
    assert not (tmp_path / "sprung").exists()


def test_the_file_holds_plain_arrays_only(saved):
    with zipfile.ZipFile(saved) as archive:
        assert all(name == "header.npy" or name.startswith(("model/", "optimizer/")) for name in archive.namelist())
    with np.load(saved, allow_pickle=False) as archive:
        assert json.loads(archive["header"].tobytes())["model"] == dataclasses.asdict(MODEL)


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_a_full_disk_leaves_the_old_file(tmp_path, wing):
    run = run_of(wing)
    save(wing, tmp_path, run)
    before = (tmp_path / NAME).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match="cannot write"):
            save(wing, tmp_path, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / NAME).read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_read_only_disk_is_said_so(tmp_path, monkeypatch):
    def refuse(path, mode="r", *arguments, **keywords):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        with pytest.raises(UserError, match="Read-only file system"):
            save(WINGS[0], tmp_path, run_of(WINGS[0]))
    assert not list(tmp_path.iterdir())


def test_a_crash_before_the_rename_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def crash(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save(WINGS[0], saved.parent, run_of(WINGS[0]))
    assert saved.read_bytes() == before and [path.name for path in saved.parent.iterdir()] == [NAME]


@pytest.mark.parametrize("wing", WINGS, ids=NAMES)
def test_weights_that_are_not_finite_are_not_saved(saved, wing):
    before, run = saved.read_bytes(), run_of(wing)
    run.params["output.weight"][0, 0] = float("nan")
    with pytest.raises(UserError, match="output.weight is not finite"):
        save(wing, saved.parent, run)
    assert saved.read_bytes() == before
