"""Sharded checkpoints: plain bytes and JSON, whole or refused, and the one before where the newest is damaged."""

import dataclasses
import pickle
import warnings

import numpy as np
import pytest
import torch

from numpy_ref import checkpoint_file, shard_files
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import RunWarning, UserError
from parity_tests.test_loop import assert_same, dataset
from torch_impl.training import checkpoint
from torch_impl.training.loop import train

MODEL = ModelConfig(vocab_size=32, context=12, layers=1, width=8, heads=2, feed_forward=16)
TRAIN = TrainConfig(
    steps=4, batch=4, eval_every=0, save_every=1, keep=2, ema=0.5, dtype="float64", device="cpu", sharded=True
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    train(MODEL, TRAIN, dataset(), folder)
    return folder


@pytest.fixture
def run_folder(original, tmp_path):
    """A copy to damage, of a run with the checkpoints 3 and 4."""
    for step, path in shard_files.history(original):
        target = shard_files.named(tmp_path, step)
        target.mkdir()
        for file in path.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_shards_are_the_checkpoint(original, tmp_path):
    single = train(MODEL, dataclasses.replace(TRAIN, sharded=False), dataset(), tmp_path)
    sharded = checkpoint.load(original)
    assert_same(single, sharded, 0)
    assert all(torch.equal(value, sharded.states["ema"][name]) for name, value in single.states["ema"].items())
    assert [step for step, _ in shard_files.history(original)] == [4, 3]  # keep=2


def test_nothing_in_it_is_a_pickle_and_none_is_loaded(original, monkeypatch):
    newest = shard_files.named(original, 4)
    assert sorted(file.name for file in newest.iterdir()) == ["header.json", "shard-00000.bin"]
    header, content = shard_files.read_header(newest), (newest / "shard-00000.bin").read_bytes()
    assert len(content) == sum(8 * int(np.prod(entry["shape"])) for entry in header["arrays"].values())
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, None)
    assert checkpoint.load(original).step == 4


def test_a_single_process_goes_on_with_shards(original, run_folder):
    settings = dataclasses.replace(TRAIN, steps=6)
    resumed = train(MODEL, settings, dataset(), run_folder, resume=True)
    assert_same(train(MODEL, settings, dataset(), run_folder / "whole"), resumed, 0)
    assert [step for step, _ in shard_files.history(run_folder)][:2] == [6, 5]  # and 4, if it is the best


def change(path, values):
    """The header rewritten with its sum made to fit: what somebody who means harm would do."""
    header = shard_files.read_header(path)
    values(header)
    shard_files.write_header(path, header)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_weight(field, value):
    return lambda path: change(path, lambda h: h["arrays"]["model/output.weight"]["chunks"][0].update({field: value}))


DAMAGE = {
    "a bit of the data": (lambda path: flip(path / "shard-00000.bin"), "a checksum differs"),
    "a bit of the header": (lambda path: flip(path / "header.json"), "altered|damaged"),
    "cut off": (lambda path: (path / "shard-00000.bin").write_bytes(b"\0" * 100), "truncated"),
    "a file is gone": (lambda path: (path / "shard-00000.bin").unlink(), "truncated|No such file"),
    "no JSON": (lambda path: (path / "header.json").write_bytes(b"\x80\x04."), "damaged"),
    "a pickle": (lambda path: (path / "shard-00000.bin").write_bytes(pickle.dumps([0.0] * 4096)), "checksum|truncated"),
    "out of the folder": (of_weight("file", "../../shard-00000.bin"), "damaged"),
    "out of the array": (of_weight("offset", [1, 0]), "damaged"),
    "negative": (of_weight("start", -8), "damaged"),
    "beyond the file": (of_weight("start", 1 << 40), "truncated"),
    "not all of it": (of_weight("shape", [1, 8]), "damaged"),
    "another shape": (
        lambda path: change(path, lambda h: h["arrays"].pop("model/output.weight")), "of another config"
    ),
    "objects": (
        lambda path: change(path, lambda h: h["arrays"]["model/output.weight"].update(dtype="object")), "damaged"
    ),
    "too large": (
        lambda path: change(path, lambda h: h["arrays"].update({
            "model/x": {"dtype": "float64", "shape": [1 << 50], "chunks": [
                {"offset": [0], "shape": [1 << 50], "file": "shard-00000.bin", "start": 0, "sha256": ""}]}})),
        "truncated",
    ),
    "another format": (lambda path: change(path, lambda h: h.update(format=2)), "sharded format 2"),
}  # fmt: skip


@pytest.mark.parametrize("damage, words", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_refused_and_the_one_before_taken(run_folder, damage, words):
    newest = shard_files.named(run_folder, 4)
    damage(newest)
    with pytest.raises(UserError, match=words):
        checkpoint_file.read(newest)
    with pytest.warns(RunWarning, match="going back to checkpoint-00000003.shards, step 3"):
        assert checkpoint.load(run_folder).step == 3


def test_a_folder_without_a_header_does_not_count(run_folder):
    (shard_files.named(run_folder, 4) / "header.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.load(run_folder).step == 3


def test_a_weight_that_is_not_finite_is_not_saved(run_folder):
    from torch_impl.training.sharded_checkpoint import save

    run = checkpoint.load(run_folder)
    run.step, run.params["output.weight"][0, 0] = 5, float("nan")
    with pytest.raises(UserError, match="output.weight is not finite"):
        save(run_folder, run)
    assert checkpoint.load(run_folder).step == 4


def test_the_newest_of_both_kinds_is_taken(run_folder):
    run = checkpoint.load(run_folder)
    for step, expected in ((2, 4), (9, 9)):
        run.step = step
        checkpoint.save(run_folder, run)
        assert checkpoint.load(run_folder).step == expected
        assert checkpoint_file.read_header(run_folder)["step"] == expected
