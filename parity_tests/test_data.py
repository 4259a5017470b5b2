"""Data at scale: shards written once and resumably, records of text, parts of a batch, documents that stay apart."""

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref import files, log
from numpy_ref.data import corpus, shards, token_files
from numpy_ref.errors import UserError
from parity_tests.test_corpus import complaint, encode, prose
from parity_tests.trained import SMALL, run
from parity_tests.wings import WINGS, plain

NAMES = [str(wing) for wing in WINGS]
both = pytest.mark.parametrize("wing", WINGS, ids=NAMES)


def texts_of(data, side):
    """The documents of a side, cut out of its tokens at its borders."""
    tokens, borders = getattr(data, side), getattr(data, f"{side}_borders")
    return [bytes(tokens[a:b]).decode() for a, b in zip(borders[:-1].tolist(), borders[1:].tolist())]


# Shards


@pytest.mark.parametrize("size", [1, 13, 1000])
def test_shards_of_any_size_hold_the_same(tmp_path, monkeypatch, size):
    monkeypatch.setattr(files.os, "fsync", lambda number: None)  # of a thousand files
    if size < 1000:
        (tmp_path / "in").mkdir()
        for i in range(5):
            (tmp_path / "in" / f"{i}.txt").write_text(prose(i, 12))
    source = tmp_path / "in" if size < 1000 else "samples"
    whole = token_files.prepare(source, tmp_path / "whole", encode, "uint8")
    monkeypatch.setattr(shards, "SHARD", size)
    data = token_files.prepare(source, tmp_path / "run", encode, "uint8")
    for side in token_files.SIDES:
        tokens, expected = getattr(data, side), np.asarray(getattr(whole, side))
        assert len(tokens) == len(expected) and np.array_equal(tokens[:], expected)
        assert np.array_equal(getattr(data, f"{side}_borders"), getattr(whole, f"{side}_borders"))
        assert data.header[side]["tokens"] == len(expected) and data.side(side)[1] == 1.0
        assert len(data.header[side]["shards"]) == -(-len(expected) // size)
    assert all(text.endswith("\n\n") and text.count("\n\n\n") == 0 for text in texts_of(data, "train"))


@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_shards_are_indexed_like_an_array(length, size, data):
    array = np.arange(length, dtype=np.uint16) * 3
    tokens = shards.Shards([array[i : i + size] for i in range(0, length, size)])
    start, stop = (data.draw(st.none() | st.integers(-70, 70)) for _ in range(2))
    step = data.draw(st.sampled_from([None, 1, 2, -1]))
    assert np.array_equal(tokens[start:stop:step], array[start:stop:step])
    index = np.array(data.draw(st.lists(st.integers(-length, length - 1), max_size=6)), np.int64).reshape(-1, 1)
    assert np.array_equal(tokens[index], array[index]) and tokens[index].dtype == array.dtype
    assert tokens[length - 1] == array[-1] and len(tokens) == length and tokens.shape == (length,)
    with pytest.raises(IndexError):
        tokens[np.array([length])]


@pytest.mark.parametrize("killed_at", [0, 1, 3, 6, 99])
def test_a_killed_tokenisation_goes_on_where_it_was(tmp_path, monkeypatch, killed_at):
    monkeypatch.setattr(shards, "SHARD", 5000)
    whole = token_files.prepare("samples", tmp_path / "whole", encode, "uint8")
    calls, replace = [], files.replace

    def killed(path, write, *rest):
        calls.append(path)
        if path.suffix == ".bin" and sum(p.suffix == ".bin" for p in calls) > killed_at:
            raise KeyboardInterrupt
        replace(path, write, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", killed)
        if killed_at < 99:
            with pytest.raises(KeyboardInterrupt):
                token_files.prepare("samples", tmp_path / "run", encode, "uint8")
    encoded = []

    def counted(text):
        encoded.append(len(text.encode()))
        return encode(text)

    data = token_files.prepare("samples", tmp_path / "run", counted, "uint8")
    for side in token_files.SIDES:
        assert np.array_equal(getattr(data, side)[:], getattr(whole, side)[:])
        assert np.array_equal(getattr(data, f"{side}_borders"), getattr(whole, f"{side}_borders"))
    assert data.header == whole.header and not (tmp_path / "run" / "progress.json").exists()
    longest = max(np.diff(whole.train_borders))
    left = len(whole.train) + len(whole.validation) - 5000 * (0 if killed_at == 99 else killed_at)
    assert sum(encoded[1:]) <= left + longest + 5000  # the first call is the probe that tells tokenizers apart


def test_another_tokenizer_does_not_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 5000)
    replace = files.replace

    def killed(path, write, *rest):
        if path.name == "train-00002.bin":
            raise KeyboardInterrupt
        replace(path, write, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "replace", killed)
        token_files.prepare("samples", tmp_path, encode, "uint8")
    assert (tmp_path / "progress.json").exists()
    data = token_files.prepare("samples", tmp_path, lambda text: encode(text) ^ 1, "uint8")
    assert bytes(data.train[:50] ^ 1).decode() == texts_of(token_files.prepare("samples", tmp_path / "b", encode, "uint8"), "train")[0][:50]


def test_folders_from_before_there_were_shards_open(tmp_path):
    data = token_files.prepare("samples", tmp_path / "new", encode, "uint8")
    old = tmp_path / "old"
    old.mkdir()
    header = {"format": 1, "source": "samples", "dtype": "uint8"}
    for side in token_files.SIDES:
        (old / f"{side}.bin").write_bytes(getattr(data, side).tobytes())
        header[side] = {"tokens": len(getattr(data, side)), "bytes": len(getattr(data, side))}
    (old / "data.json").write_text(json.dumps(header))
    opened = token_files.open_tokens(old)
    assert np.array_equal(opened.train, data.train) and opened.train_borders is None
    token_files.prepare("samples", old, encode, "uint8")
    assert not (old / "train.bin").exists()


@both
def test_a_run_on_shards_is_the_run_on_one_file(tmp_path, wing, monkeypatch):
    logs = []
    for size in (10**6, 997):
        monkeypatch.setattr(shards, "SHARD", size)
        out = tmp_path / f"{size}"
        assert run(wing, "train", *SMALL, "--data", "samples", "--out", out, "--steps", 4) == 0
        logs.append([json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()])
    assert logs[0] == logs[1]


# Records


def test_jsonl_lines_are_documents(tmp_path):
    path = tmp_path / "texts.jsonl"
    stories = [prose(i) + ("\r\n" if i % 2 else "") + "é" for i in range(40)]
    path.write_text("\n".join(json.dumps({"id": 1, "text": text}) + ("\n" if i == 3 else "") for i, text in enumerate(stories)))
    found = corpus.documents(path)
    assert [document.text for document in found] == [text.replace("\r\n", "\n") for text in stories]
    assert len({document.name for document in found}) == 40 == len({document.stamp for document in found})
    (tmp_path / "more.txt").write_text(prose(99))
    both = corpus.documents(tmp_path)
    assert {document.text for document in found} < {document.text for document in both} and len(both) == 41
    data = token_files.prepare(tmp_path, tmp_path / "run", encode, "uint8")
    assert len(texts_of(data, "train")) + len(texts_of(data, "validation")) == 41


BAD_LINES = {
    "no JSON": (b"{text", "is not JSON"),
    "cut": (b'{"text": "a', "is not JSON"),
    "no text": (b'{"words": "a"}', 'no "text"'),
    "a number": (b'{"text": 5}', 'no "text"'),
    "nothing": (b'{"text": null}', 'no "text"'),
    "a list": (b'["text"]', 'no "text"'),
    "a string": (b'"text"', 'no "text"'),
    "deep": (b"[" * 100_000, "is not JSON"),
    "no UTF-8": (b'{"text": "\xff"}', "not valid Unicode"),
    "half a character": (b'{"text": "\\ud800"}', "not valid Unicode"),
}


@pytest.mark.parametrize("line, words", BAD_LINES.values(), ids=BAD_LINES)
def test_bad_lines_are_named(tmp_path, line, words):
    path = tmp_path / "texts.jsonl"
    good = json.dumps({"text": prose(1)}).encode()
    path.write_bytes(b"\n".join([good, b"", line, good]))
    message = complaint(lambda: [document.text for document in corpus.documents(path)])
    assert words in message and "line 3" in message and str(path) in message and len(message) < 300


def test_lines_beyond_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.text_records, "LONGEST", 1 << 20)
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'{"text": "' + b"a" * (1 << 20) + b'"}')
    assert "line 1 is longer than 1 MiB" in complaint(corpus.documents, path)
    path.write_bytes(b"\n \n")
    assert "is empty" in complaint(corpus.documents, path)


class Rows(list):
    """What ``datasets.load_dataset`` returns, as far as it is used."""

    column_names = ["text"]


def test_hugging_face_data_sets(tmp_path, monkeypatch):
    asked = []

    def load_dataset(name, configuration, split):
        asked.append((name, configuration, split))
        if name == "missing":
            raise FileNotFoundError("nowhere\nto be found")
        rows = Rows({"text": prose(i)} for i in range(12))
        rows.column_names = ["words"] if name == "other" else ["text"]
        return rows

    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "needs the package datasets" in complaint(corpus.documents, "hf:a/b")
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    data = token_files.prepare("hf:a/b:small", tmp_path, encode, "uint8")
    assert asked[0] == ("a/b", "small", "train") and len(texts_of(data, "train")) == 11
    assert "no column 'text', only words" in complaint(corpus.documents, "hf:other")
    with pytest.raises(UserError, match="can't be loaded: FileNotFoundError"):
        corpus.documents("hf:missing")


# Parts of a batch, and documents that stay apart


@both
@given(data=st.data())
def test_parts_of_any_number_of_processes_are_the_batch(wing, data):
    """Also of a run that goes on with another number: the position alone says where it stands."""
    module = wing.module("data.batches")
    context, batch_size = data.draw(st.integers(1, 5)), data.draw(st.integers(4, 9))
    tokens = np.arange(data.draw(st.integers(context + 1, 60)), dtype=np.uint8)
    borders = np.array([0, *range(3, len(tokens), 4), len(tokens)])
    position, seed = data.draw(st.integers(0, 200)), data.draw(st.integers(0, 2**64 - 1))
    for call in (lambda **part: module.batch(tokens, position, batch_size, context, seed, **part),
                 lambda **part: module.packed_batch(tokens, borders, position, batch_size, context, seed, **part)):
        whole = call()
        for world in (1, 2, 3, 4):
            parts = [call(rank=rank, world=world) for rank in range(world)]
            for number, expected in enumerate(whole):
                assert np.array_equal(np.concatenate([np.asarray(part[number]) for part in parts]), np.asarray(expected))
        with pytest.raises(UserError):
            call(rank=0, world=batch_size + 1)
        with pytest.raises(UserError):
            call(rank=2, world=2)


@both
def test_an_epoch_of_packed_rows_has_every_token_once(wing):
    tokens = np.arange(61, dtype=np.uint8)
    borders = np.array([0, 5, 6, 30, 61])
    inputs, targets, documents = map(np.asarray, wing.module("data.batches").packed_batch(tokens, borders, 12, 12, 5, 3))
    assert sorted(inputs.reshape(-1).tolist()) == list(range(60)) and inputs[:, 0].tolist() != sorted(inputs[:, 0].tolist())
    of = np.searchsorted(borders, inputs, side="right")
    assert np.array_equal(documents, of - of[:, :1])
    last = np.isin(inputs + 1, borders)
    assert np.array_equal(targets == -100, last & (inputs != 60)) and np.array_equal(targets[~last], inputs[~last] + 1)


@both
def test_packed_documents_do_not_leak(wing):
    """Loss and gradient of a packed batch are those of its documents, each alone in its row."""
    from numpy_ref.config import ModelConfig, TrainConfig

    model = ModelConfig(vocab_size=32, context=8, layers=2, width=16, heads=2, feed_forward=16)
    settings = TrainConfig(dtype="float64", device="cpu")
    params = WINGS[0].call("model.initialise", "initialise", model, 0, np.float64)
    tokens = np.random.default_rng(0).integers(0, 32, 65).astype(np.uint8)
    borders = np.array([0, 3, 4, 9, 20, 38, 51, 65])
    packed = plain(wing.module("data.batches").packed_batch(tokens, borders, 0, 8, 8, 1))
    loss, grads = wing.call("training.step", "loss_and_grads", params, *packed[:2], model, settings, 0, packed[2])
    alone = {name: 0.0 for name in params}
    total, count = 0.0, int((packed[1] != -100).sum())
    for inputs, targets, documents in zip(*packed):
        for number in range(documents.max() + 1):
            here = documents == number
            counted = int((targets[here] != -100).sum())
            if counted:
                one, parts = wing.call(
                    "training.step", "loss_and_grads", params, inputs[None, here], targets[None, here], model, settings, 0)
                total += float(one) * counted / count
                alone = {name: alone[name] + parts[name] * counted / count for name in params}
    assert float(loss) == pytest.approx(total, abs=1e-12)
    assert all(np.abs(grads[name] - alone[name]).max() < 1e-12 for name in params)


@both
def test_packing_needs_borders_and_stays(tmp_path, wing, capsys):
    folder = tmp_path / "run"
    assert run(wing, "train", *SMALL, "--data", "samples", "--out", folder) == 0
    capsys.readouterr()
    assert run(wing, "train", "--resume", "--out", folder, "--pack-documents", "--steps", 8) == 2
    assert "pack_documents=False" in capsys.readouterr().err
    assert os.path.exists(folder / "data" / "train-00000.ends")


def test_runs_with_packed_documents_agree_and_resume(tmp_path):
    """Both wings train alike on packed documents, and a run that was stopped ends as one that was not."""
    options = (*SMALL, "--data", "samples", "--pack-documents", "--dtype", "float64")
    logs = []
    for wing in WINGS:
        out = tmp_path / str(wing)
        assert run(wing, "train", *options, "--out", out) == 0
        assert run(wing, "train", *options, "--out", tmp_path / f"{wing}_parts", "--steps", 6, "--time-budget", 1e-9) == 0
        assert run(wing, "train", "--resume", "--out", tmp_path / f"{wing}_parts") == 0
        logs.append([[row["loss"] for row in log.read_rows(folder / log.NAME)] for folder in (out, tmp_path / f"{wing}_parts")])
    assert logs[0][0] == logs[0][1] and logs[1][0] == logs[1][1]
    assert np.abs(np.subtract(logs[0][0], logs[1][0])).max() < 1e-9
