"""Everything that can be wrong with a command: one clear line on stderr, exit status 2, no traceback, on both wings."""

import dataclasses
import errno
import os

import pytest
import torch

from bench import pipeline, semantic
from numpy_ref import checkpoint_file, cli, commands
from parity_tests.trained import PROMPT, SMALL, checkpoint, run, runs, wing  # noqa: F401  (fixtures)
from parity_tests.wings import WINGS


def one_line_error(capsys, status):
    """The one line of the error: nothing on stdout, nothing else on stderr but what was opened, exit status 2."""
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "; run folder" not in line and ", trained by" not in line]
    assert status == 2 and printed.out == "" and len(lines) == 1 and lines[0].startswith("error: "), printed
    assert len(lines[0]) > len("error: ") + 15
    return lines[0]


TRAIN = ["train", "--data", "samples", "--out", "OUT"]
GENERATE = ["generate", "--checkpoint", "RUN"]
BAD = {
    "no command": ([], "COMMAND"),
    "unknown command": (["tran"], "train"),
    "unknown preset": ([*TRAIN, "--preset", "huge"], "showcase"),
    "unknown option": ([*TRAIN, "--stepz", "3"], "--steps"),
    "abbreviated option": ([*TRAIN, "--step", "3"], "--steps"),
    "option of another command": ([*GENERATE, *PROMPT, "--steps", "3"], "--temperature"),
    "unknown device": ([*TRAIN, "--device", "tpu"], "cuda"),
    "unknown dtype": ([*TRAIN, "--dtype", "int8"], "float32"),
    "unknown optimizer": ([*TRAIN, "--optimizer", "sgd"], "muon"),
    "not a number": ([*TRAIN, "--steps", "many"], "many"),
    "no steps": ([*TRAIN, "--steps", "0"], "at least 1"),
    "no batch": ([*TRAIN, "--batch", "-1"], "at least 1"),
    "no learning rate": ([*TRAIN, "--lr", "0"], "above 0"),
    "endless learning rate": ([*TRAIN, "--lr", "nan"], "finite"),
    "negative seed": ([*TRAIN, "--seed", "-1"], "at least 0"),
    "width and heads": ([*TRAIN, "--width", "30", "--heads", "4"], "not divisible"),
    "heads and key heads": ([*TRAIN, "--heads", "4", "--kv-heads", "3"], "divisor of 4"),
    "window below nothing": ([*TRAIN, "--window", "-1"], "at least 0"),
    "window of words": ([*TRAIN, "--window", "wide"], "wide"),
    "sinks without a window": ([*TRAIN, "--sinks", "2"], "window"),
    "pattern without a window": ([*TRAIN, "--full-attention-every", "2"], "window"),
    "odd rotary width": ([*TRAIN, "--positions", "rope", "--width", "24", "--heads", "8"], "even"),
    "scaling of what": ([*TRAIN, "--rope-scaling", "linear"], "positions='rope'"),
    "scaling from where": ([*TRAIN, "--positions", "rope", "--rope-scaling", "yarn"], "rope_original_context"),
    "two drafts": ([*GENERATE, *PROMPT, "--lookup", "--draft", "RUN"], "both"),
    "no guesses": ([*GENERATE, *PROMPT, "--lookup", "--ahead", "0"], "at least 1"),
    "guesses for many": ([*GENERATE, *PROMPT, *PROMPT, "--lookup"], "2 prompts"),
    "three bits": (["quantize", "--checkpoint", "RUN", "--bits", "3", "--out", "OUT"], "8 or 4"),
    "groups that do not divide": (["quantize", "--checkpoint", "RUN", "--bits", "4", "--group", "24", "--out", "OUT"], "divisor"),
    "copy over a run": (["quantize", "--checkpoint", "RUN", "--bits", "8", "--out", "RUN"], "another --out"),
    "generate with no average": ([*GENERATE, *PROMPT, "--ema"], "no moving average"),
    "evaluate no average": (["eval", "--checkpoint", "RUN", "--data", "samples", "--ema"], "train --ema"),
    "no such layer": (["attention", "--checkpoint", "RUN", *PROMPT, "--layer", "9", "--out", "OUT.png"], "from 0 to"),
    "no such head": (["attention", "--checkpoint", "RUN", *PROMPT, "--head", "-1", "--out", "OUT.png"], "from 0 to"),
    "no picture": (["attention", "--checkpoint", "RUN", *PROMPT, "--out", "OUT.txt"], ".png"),
    "prompt beyond the context": (["attention", "--checkpoint", "RUN", "--prompt", "x" * 99, "--out", "OUT.png"], "context of 32"),
    "system text beyond the context": (["chat", "--checkpoint", "RUN", "--system", "x" * 99], "context of 32"),
    "no time": ([*TRAIN, "--time-budget", "0"], "above 0"),
    "no time for a tree": (["hyperbolic", "--out", "OUT", "--time-budget", "-1"], "above 0"),
    "no time for tokenizations": (["tokenizations", "--data", "samples", "--out", "OUT", "--time-budget", "nan"], "above 0"),
    "no room for tokens": ([*TRAIN, "--experts", "4", "--capacity-factor", "0"], "above 0, or none for no limit"),
    "room that is no number": ([*TRAIN, "--experts", "4", "--capacity-factor", "much"], "a number, or none"),
    "no checkpoint kept": ([*TRAIN, "--keep", "0"], "at least 1"),
    "no bad step allowed": ([*TRAIN, "--bad-steps", "0"], "at least 1"),
    "samples of nothing": ([*TRAIN, "--sample-every", "2", "--sample-prompt", ""], "empty"),
    "plot of nothing": (["plot", "OUT", "--out", "OUT.png"], "log.jsonl"),
    "vocabulary": ([*TRAIN, "--vocab-size", "100"], "256"),
    "no data": (["train", "--out", "OUT"], "--data"),
    "no out": (["train", "--data", "samples"], "--out"),
    "missing data": (["train", "--data", "nowhere/text", "--out", "OUT"], "samples, pydoc, stdlib"),
    "empty data": (["train", "--data", "EMPTY", "--out", "OUT"], "empty"),
    "short data": (["train", "--data", "SHORT", "--out", "OUT"], "give"),
    "binary data": (["train", "--data", "BINARY", "--out", "OUT"], "UTF-8"),
    "empty folder": (["train", "--data", "FOLDER", "--out", "OUT"], "text"),
    "context beyond the data": ([*TRAIN, "--preset", "tiny", "--context", "1000000", "--steps", "1"], "context"),
    "out is a file": (["train", "--data", "samples", "--out", "SHORT"], "cannot write"),
    "a run already": (["train", "--data", "samples", "--out", "RUN"], "--resume"),
    "resume nothing": (["train", "--resume", "--out", "OUT"], "no checkpoint"),
    "resume another width": (["train", "--resume", "--out", "RUN", "--width", "64"], "width=32"),
    "resume another preset": (["train", "--resume", "--out", "RUN", "--preset", "showcase"], "context=32"),
    "resume another seed": (["train", "--resume", "--out", "RUN", "--seed", "9"], "seed=0"),
    "resume other data": (["train", "--resume", "--out", "RUN", "--data", "pydoc"], "samples"),
    "no checkpoint": (["generate", "--checkpoint", "OUT", *PROMPT], "no checkpoint"),
    "truncated checkpoint": (["generate", "--checkpoint", "TRUNCATED", *PROMPT], "truncated"),
    "altered checkpoint": (["eval", "--checkpoint", "ALTERED", "--data", "samples"], "checksum"),
    "no checkpoint at all": (["inspect", "--checkpoint", "SHORT"], "not a checkpoint"),
    "neither preset nor checkpoint": (["inspect"], "--preset"),
    "unknown preset to inspect": (["inspect", "--preset", "huge"], "showcase"),
    "no prompt": (GENERATE, "--prompt"),
    "empty prompt": ([*GENERATE, "--prompt", ""], "empty"),
    "prompt that is no text": ([*GENERATE, "--prompt", "\udc80"], "surrogate"),
    "temperature": ([*GENERATE, *PROMPT, "--temperature", "0"], "--greedy"),
    "negative temperature": ([*GENERATE, *PROMPT, "--temperature", "-1"], "above 0"),
    "top-k": ([*GENERATE, *PROMPT, "--top-k", "-1"], "at least 0"),
    "top-p": ([*GENERATE, *PROMPT, "--top-p", "1.5"], "at most 1"),
    "top-p of nothing": ([*GENERATE, *PROMPT, "--top-p", "0"], "above 0"),
    "min-p": ([*GENERATE, *PROMPT, "--min-p", "2"], "between 0 and 1"),
    "tokens": ([*GENERATE, *PROMPT, "--tokens", "0"], "at least 1"),
    "split": (["eval", "--checkpoint", "RUN", "--data", "samples", "--split", "test"], "validation"),
    "eval of nothing": (["eval", "--checkpoint", "RUN", "--data", "EMPTY"], "empty"),
}


@pytest.fixture
def places(tmp_path, checkpoint):
    """The words in capitals above, as paths."""
    contents = {"EMPTY": b"", "SHORT": b"too short", "BINARY": b"\x00\xff\xfe" * 2000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    whole = (checkpoint / "checkpoint.npz").read_bytes()
    (tmp_path / "TRUNCATED").write_bytes(whole[: len(whole) // 2])
    arrays, header = checkpoint_file.read(checkpoint)
    arrays["model/output.weight"][0] += 1
    checksum, checkpoint_file._checksum = checkpoint_file._checksum, lambda *_: "0" * 64
    try:
        checkpoint_file.write(tmp_path / "ALTERED", arrays, header)
    finally:
        checkpoint_file._checksum = checksum
    (tmp_path / "FOLDER").mkdir()
    names = [*contents, "TRUNCATED", "ALTERED", "FOLDER", "OUT"]
    return {"RUN": str(checkpoint)} | {name: str(tmp_path / name) for name in names}


@pytest.mark.parametrize("argv, words", BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_line(wing, places, capsys, argv, words):
    error = one_line_error(capsys, run(wing, *(places.get(part, part) for part in argv)))
    assert words in error
    assert not os.path.exists(os.path.join(places["OUT"], "checkpoint.npz"))


def test_a_gpu_that_is_not_there(wing, places, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for argv in ([*TRAIN, "--device", "cuda"], [*GENERATE, *PROMPT, "--device", "cuda"]):
        assert "cuda" in one_line_error(capsys, run(wing, *(places.get(part, part) for part in argv)))


def test_numpy_reads_no_16_bit_formats(places, capsys):
    """It trains in them, by rounding; a model that only reads would silently be one of float32."""
    argv = [places.get(part, part) for part in [*GENERATE, *PROMPT, "--dtype", "bfloat16"]]
    assert "float32" in one_line_error(capsys, run(WINGS[0], *argv))


def test_a_full_disk_in_training(wing, tmp_path, capsys, monkeypatch):
    def full(file, *arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_file.np, "savez", full)
    status = run(wing, "train", *SMALL, "--data", "samples", "--out", tmp_path)
    assert "No space left on device" in capsys.readouterr().err and status == 2
    assert not list(tmp_path.glob("*.partial")) and not (tmp_path / "checkpoint.npz").exists()


def test_too_little_memory(wing, checkpoint, capsys, monkeypatch):
    def full(*arguments, **keywords):
        raise (MemoryError() if wing is WINGS[0] else RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"))

    module = wing.module("__main__")
    monkeypatch.setattr(module, "WING", dataclasses.replace(module.WING, generate=full))
    assert "memory" in one_line_error(capsys, run(wing, "generate", "--checkpoint", checkpoint, *PROMPT))


def test_generated_control_characters_stay_off_terminals():
    assert commands.harmless("a\x1b[2J\x07\x9b\tb\nö") == "a\ufffd[2J\ufffd\ufffd\tb\nö"


@pytest.mark.parametrize("program", [pipeline, semantic], ids=lambda module: module.__name__)
def test_programs_refuse_options_that_they_do_not_know(program, capsys):
    assert "--nope" in one_line_error(capsys, program.main(["--nope"]))


def test_errors_are_one_line_whatever_they_quote(capsys):
    assert cli.fail("a\nb\n c") == 2 and capsys.readouterr().err == "error: a b c\n"


