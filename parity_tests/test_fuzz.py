"""Files that somebody has damaged or made up: success or one clear line, nothing executed, no more memory than they are long."""

import contextlib
import json
import random
import shutil
import struct
import sys
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from numpy_ref import checkpoint_file, log, plots, run_plots
from numpy_ref.config import ModelConfig, TrainConfig, from_json, to_json
from numpy_ref.data import corpus, token_files
from numpy_ref.errors import UserError
from parity_tests.harness.record import record
from parity_tests.test_checkpoint import Trap, resealed, run_of
from parity_tests.test_corpus import encode, prose
from parity_tests.wings import WINGS

MEMORY = 24 << 20  # bytes that reading a file of some kilobytes may take at its peak: libraries loaded on the way included
HOSTILE = [
    b"", b"\0" * 64, b"\xff\xfe", b"[" * 50_000, b'{"a":' * 20_000, b"1e999", b"NaN", b"-1", b"null", b"9" * 5000, b"1" + b"0" * 400,
    b"18446744073709551616", b'"\\ud800"', b"true", b"[]", b"{}", b"0.5", b'"x"', b"\x93NUMPY\x01\x00\xff\xff", b"|O", b"<f16",
    b"(99999999999999,)", b"(-1,)", b"PK\x01\x02", b"PK\x05\x06" + b"\xff" * 18, b"__import__('os').system('touch sprung')", b"../../../etc/passwd",
]  # fmt: skip
TIMES = pytest.mark.parametrize("times", [150, pytest.param(3000, marks=pytest.mark.nightly)])


def mutated(content, rng):
    """The content with something wrong in it, as disks, editors and people do."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = rng.randrange(len(content) + 1)
        kind = rng.randrange(7)
        if kind == 0 and content:
            content[place % len(content)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            content[place:place] = rng.choice(HOSTILE)
        elif kind == 3:
            content[place : place + rng.randrange(1, 64)] = rng.choice(HOSTILE)
        elif kind == 4:
            del content[place : place + rng.randrange(1, 64)]
        elif kind == 5:
            content[place:place] = content[place : place + rng.randrange(1, 512)]
        else:
            content[place : place + 8] = struct.pack("<q", rng.choice((-1, 2**31, 2**40, 2**63 - 1)))
    return bytes(content)


def mutated_json(value, rng):
    """A JSON value with one of its parts replaced by something that does not belong there."""
    strange = [None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "x" * 1000, [], {}, [[[]]], {"a": 1}, "../../etc"]
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: mutated_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return [*value[:place], mutated_json(value[place], rng), *value[place + 1 :]]
    return rng.choice(strange)


def outcomes(what, read, variants, sprung):
    """How often reading a variant worked and was refused; anything else fails. ``variants`` are made outside the measure.

    ``what``: the files, in words, for the bench, which lists the counts.
    """
    counts, most = {"read": 0, "refused": 0}, 0
    tracemalloc.start()
    try:
        for variant in variants:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(variant)
                counts["read"] += 1
            except UserError as error:
                assert len(" ".join(str(error).split())) < 2000
                counts["refused"] += 1
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
            assert most < MEMORY
    finally:
        tracemalloc.stop()
    assert not sprung.exists()
    record(fuzz=what, memory=most, **counts)
    return counts


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@TIMES
def test_configs(here, times):
    rng = random.Random(times)
    texts = [to_json(ModelConfig()), to_json(TrainConfig())]

    def variants():
        for number in range(2 * times):
            text = texts[number % 2]
            if rng.random() < 0.5:
                yield number, json.dumps(mutated_json(json.loads(text), rng))
            else:
                yield number, mutated(text.encode(), rng).decode("utf-8", "surrogateescape")

    counts = outcomes("configs", lambda v: from_json((ModelConfig, TrainConfig)[v[0] % 2], v[1]), variants(), here / "sprung")
    assert counts["refused"] > times / 2


@TIMES
def test_checkpoints_with_damaged_bytes(here, times):
    rng, wing = random.Random(times), WINGS[times % 2]
    wing.module("training.checkpoint").save(here, run_of(wing))
    path = here / checkpoint_file.NAME
    whole = path.read_bytes()

    def variants():
        for _ in range(times):
            path.write_bytes(mutated(whole, rng))
            yield path

    counts = outcomes("checkpoints, bytes damaged", wing.module("training.checkpoint").load, variants(), here / "sprung")
    assert counts["refused"] > times / 2


def strange_array(rng):
    dtype = rng.choice(("<f4", ">f4", "<f2", "<f8", "<c8", "|b1", "<U3", "|S5", "<i8", "<u2", "|V7", "<M8[s]"))
    shape = rng.choice(((), (0,), (1,), (3, 2), (8, 4), (4, 8), (0, 10**9), (1,) * 20))
    return np.zeros(shape, dtype)


@TIMES
def test_checkpoints_that_another_program_made_up(here, times):
    """Their checksums fit: header and arrays are whatever they like."""
    rng, path = random.Random(times), here / checkpoint_file.NAME
    WINGS[0].module("training.checkpoint").save(here, run_of(WINGS[0]))
    arrays, header = checkpoint_file.read(path)
    header["best"] = {"step": 3, "val_loss": 1.5}

    def variants():
        for number in range(times // 3):
            some, settings = dict(arrays), header
            kind = rng.randrange(4)
            if kind == 0:
                settings = mutated_json(header, rng)
            elif kind == 1:
                some[rng.choice(list(some))] = strange_array(rng)
            elif kind == 2:
                some[rng.choice(("model/x", "optimizer/output.weight/m/n", "optimizer/x", "a" * 900, "ema/output.weight", "header",
                                 "optimizer/output.weight/__class__", "model/output.weight.codes"))] = strange_array(rng)  # fmt: skip
            else:
                del some[rng.choice(list(some))]
            if isinstance(settings, dict):
                some, settings = resealed(some, settings)
            some.pop("header", None)
            with contextlib.suppress(ValueError):
                np.savez(path, header=np.frombuffer(json.dumps(settings).encode(), np.uint8), **some)
            yield WINGS[number % 2]

    def read(wing):
        wing.module("training.checkpoint").load(here)

    counts = outcomes("checkpoints made up, checksum right", read, variants(), here / "sprung")
    assert counts["refused"] > times / 6


def npy(shape, dtype="<f4", content=b""):
    """An array file whose header says what it likes."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


BOMBS = {
    "a shape beyond the memory": lambda a: a.writestr("header.npy", npy("(99999999999,)")),
    "a shape that is negative": lambda a: a.writestr("header.npy", npy("(-1,)")),
    "a shape of shapes": lambda a: a.writestr("header.npy", npy("(" * 90 + "1," + ")" * 90)),
    "a shape that is code": lambda a: a.writestr("header.npy", npy("__import__('os').system('touch sprung')")),
    "a million dimensions": lambda a: a.writestr("header.npy", npy("(" + "1," * 4000 + ")")),
    "a large type": lambda a: a.writestr("header.npy", npy("(1,)", "|V2000000000")),
    "objects": lambda a: a.writestr("header.npy", npy("(1,)", "|O", b"cos\nsystem\n(S'touch sprung'\ntR.")),
    "zeros, compressed": lambda a: a.writestr("header.npy", npy(f"({48 << 20},)", "|u1") + bytes(48 << 20), zipfile.ZIP_DEFLATED),
    "ten thousand members": lambda a: [a.writestr(f"model/{i}.npy", b"") for i in range(10_000)],
    "deep JSON": lambda a: a.writestr("header.npy", npy("(100000,)", "|u1", b"[" * 100_000)),
    "a header that is a list": lambda a: a.writestr("header.npy", npy("(2,)", "|u1", b"[]")),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bombs(here, bomb):
    with zipfile.ZipFile(here / checkpoint_file.NAME, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bomb(archive)
    counts = outcomes("archives that are bombs", checkpoint_file.read, [here], here / "sprung")
    assert counts == {"read": 0, "refused": 1} and checkpoint_file.step_of(here / checkpoint_file.NAME) is None


def test_a_config_that_would_list_parameters_for_ever(here):
    WINGS[0].module("training.checkpoint").save(here, run_of(WINGS[0]))
    arrays, header = checkpoint_file.read(here)
    arrays, header = resealed(arrays, header | {"model": header["model"] | {"layers": 10**9}})
    np.savez(here / checkpoint_file.NAME, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    assert outcomes("archives that are bombs", checkpoint_file.read, [here], here / "sprung")["refused"] == 1


def test_no_object_of_a_log_or_an_index_is_made(here):
    """Nothing here is ever unpickled: not a log, not an index, not token files."""
    import pickle

    content = pickle.dumps(Trap())
    for name in (log.NAME, "config.json", "data.json", checkpoint_file.NAME):
        (here / name).write_bytes(content)
    assert log.read_rows(here / log.NAME) == []
    for read in (token_files.open_tokens, checkpoint_file.read, run_plots.Curves):
        with pytest.raises(UserError):
            read(here)
    assert not (here / "sprung").exists()


@TIMES
def test_logs_and_run_folders(here, times):
    """``plot`` and the training curve read the log, ``plot`` also config.json."""
    rng = random.Random(times)
    rows = [{"step": i, "tokens": 9 * i, "time": 0.1 * i, "loss": 3.0 - i / 9, "lr": 0.1, "grad_norm": None if i == 3 else 1.0,
             "tokens_per_second": 90.0} | ({"val_loss": 2.5} if i % 4 == 0 else {}) for i in range(1, 13)]  # fmt: skip
    settings = {"model": json.loads(to_json(ModelConfig())), "train": json.loads(to_json(TrainConfig())), "device": "cpu"}
    drawn = 0

    def variants():
        for _ in range(times):
            lines = "".join(json.dumps(mutated_json(row, rng) if rng.random() < 0.2 else row) + "\n" for row in rows).encode()
            (here / log.NAME).write_bytes(mutated(lines, rng) if rng.random() < 0.5 else lines)
            config = json.dumps(mutated_json(settings, rng) if rng.random() < 0.3 else settings).encode()
            (here / "config.json").write_bytes(mutated(config, rng) if rng.random() < 0.1 else config)
            yield here

    def read(folder):
        nonlocal drawn
        run = run_plots.Curves(folder)
        values = [run.column(name) for name in log.NUMBERS]
        assert all(np.isfinite(value[~np.isnan(value)]).all() for value in values)
        if drawn < min(10, times // 60):  # drawing takes longer than reading
            drawn += 1
            tracemalloc.stop()
            run_plots.draw({"a": run, "b": run}, here / "a.png")
            plots.training_curve(run.rows, here / "b.png")
            tracemalloc.start()

    counts = outcomes("logs and run folders", read, variants(), here / "sprung")
    assert counts["read"] > times / 4 and counts["refused"] > times / 20


@TIMES
def test_token_files(here, times, monkeypatch):
    monkeypatch.setattr(token_files.shards, "SHARD", 4000)
    rng = random.Random(times)
    for i in range(12):
        (here / f"{i}.txt").write_text(prose(i, 200))
    token_files.prepare(here, here / "whole", encode, "uint8")
    names = [path.name for path in (here / "whole").iterdir()]

    def variants():
        for _ in range(times):
            shutil.rmtree(here / "run", ignore_errors=True)
            shutil.copytree(here / "whole", here / "run")
            path = here / "run" / ("data.json" if rng.random() < 0.6 else rng.choice(names))
            if path.suffix == ".json" and rng.random() < 0.6:
                path.write_text(json.dumps(mutated_json(json.loads(path.read_text()), rng)))
            else:
                path.write_bytes(mutated(path.read_bytes(), rng))
            yield here / "run"

    def read(folder):
        data = token_files.open_tokens(folder)
        for side in token_files.SIDES:
            tokens, borders = getattr(data, side), getattr(data, f"{side}_borders")
            assert tokens[len(tokens) - 1] >= 0 and (borders is None or borders[-1] == len(tokens))

    counts = outcomes("token files", read, variants(), here / "sprung")
    assert counts["refused"] > times / 2


@TIMES
def test_unfinished_tokenisations(here, times, monkeypatch):
    """A damaged progress.json or shard is no reason to fail, nor to take over what is wrong in it."""
    monkeypatch.setattr(token_files.shards, "SHARD", 4000)
    monkeypatch.setattr(token_files.files.os, "fsync", lambda number: None)
    rng = random.Random(times)
    (here / "in").mkdir()
    for i in range(6):
        (here / "in" / f"{i}.txt").write_text(prose(i, 200))
    whole = token_files.prepare(here / "in", here / "whole", encode, "uint8")
    header = {name: value for name, value in whole.header.items() if name not in (*token_files.SIDES, "held_out", "sha256")}
    finished = {"validation": whole.header["validation"]["shards"], "train": whole.header["train"]["shards"][:1]}
    for _ in range(times // 5):
        shutil.rmtree(here / "run", ignore_errors=True)
        shutil.copytree(here / "whole", here / "run")
        (here / "run" / "data.json").unlink()
        token_files._write_json(here / "run" / "progress.json", {"header": header, "shards": finished})
        progress = json.loads((here / "run" / "progress.json").read_text())
        if rng.random() < 0.5:
            (here / "run" / "progress.json").write_text(json.dumps(mutated_json(progress, rng)))
        path = rng.choice(list((here / "run").iterdir()))
        path.write_bytes(mutated(path.read_bytes(), rng))
        data = token_files.prepare(here / "in", here / "run", encode, "uint8")
        assert data.header == whole.header
        assert all(np.array_equal(getattr(data, side)[:], getattr(whole, side)[:]) for side in token_files.SIDES)
    record(fuzz="unfinished tokenisations, made whole again", read=times // 5, refused=0)


@TIMES
def test_jsonl_data_sets(here, times):
    rng, path = random.Random(times), here / "texts.jsonl"
    lines = b"".join(json.dumps({"text": prose(i), "n": i}).encode() + b"\n" for i in range(12))

    def variants():
        for _ in range(times):
            path.write_bytes(mutated(lines, rng))
            yield path

    counts = outcomes("JSONL data sets", lambda path: [d.text for d in corpus.documents(path)], variants(), here / "sprung")
    assert counts["refused"] > times / 4
    assert sys.getrecursionlimit() <= 10_000
