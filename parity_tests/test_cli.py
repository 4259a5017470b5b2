"""The commands of both wings: what they print and write, and one clear line for everything that can be wrong."""

import dataclasses
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from numpy_ref import checkpoint_file, cli, commands, log
from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig
from parity_tests.wings import WINGS

NAMES = [str(wing) for wing in WINGS]
SMALL = ["--preset", "tiny", "--steps", "6", "--batch", "2", "--eval-every", "3", "--eval-tokens", "256", "--device", "cpu"]
PROMPT = ["--prompt", "The "]


def run(wing, *argv):
    return wing.module("__main__").main([str(part) for part in argv])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run folder of each wing."""
    folders = {}
    for wing in WINGS:
        folders[str(wing)] = tmp_path_factory.mktemp(str(wing)) / "run"
        assert run(wing, "train", *SMALL, "--data", "samples", "--out", folders[str(wing)]) == 0
    return folders


@pytest.fixture(params=WINGS, ids=NAMES)
def wing(request):
    return request.param


@pytest.fixture
def checkpoint(wing, runs):
    return runs[str(wing)]


def one_line_error(capsys, status):
    """The one line of the error: nothing on stdout, nothing else on stderr but what was opened, exit status 2."""
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "; run folder" not in line and ", trained by" not in line]
    assert status == 2 and printed.out == "" and len(lines) == 1 and lines[0].startswith("error: "), printed
    assert len(lines[0]) > len("error: ") + 15
    return lines[0]


# What commands print and write


def test_train_fills_the_run_folder(checkpoint):
    assert {path.name for path in checkpoint.iterdir()} == {
        "config.json", "log.jsonl", "checkpoint.npz", "training_curve.png", "data"}
    assert (checkpoint / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    rows = log.read_rows(checkpoint / "log.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "val_loss" in row] == [3, 6]


def test_the_other_wing_reads_the_run(runs, capsys):
    """Greedy text of both wings from both checkpoints: the same words."""
    for folder in runs.values():
        texts = []
        for wing in WINGS:
            assert run(wing, "generate", "--checkpoint", folder, *PROMPT, "--greedy", "--tokens", 30, "--device", "cpu") == 0
            texts.append(capsys.readouterr().out)
        assert texts[0] == texts[1] and texts[0].startswith("The ")


def test_generate_prints_the_text_alone(wing, checkpoint, capsys):
    outputs = []
    for seed in (1, 1, 2):
        assert run(wing, "generate", "--checkpoint", checkpoint / "checkpoint.npz", *PROMPT, "--seed", seed, "--tokens", 20) == 0
        printed = capsys.readouterr()
        outputs.append(printed.out)
        assert printed.out.startswith("The ") and printed.out.endswith("\n") and "tokens/s" in printed.err
    assert outputs[0] == outputs[1] != outputs[2]


def test_prompts_of_any_length_and_number(wing, checkpoint, capsys):
    """Longer than the context, many at once, other scripts: each is continued after its own words."""
    long = "words " * 20
    prompts = [long, "a", "Größe: 10 €"]
    options = [part for prompt in prompts for part in ("--prompt", prompt)]
    assert run(wing, "generate", "--checkpoint", checkpoint, *options, "--tokens", 3, "--greedy", "--top-k", 5) == 0
    out = capsys.readouterr().out
    assert all(prompt in out for prompt in prompts) and out.index(long) < out.index("Größe")


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal and remembers how it was written to."""

    encoding = "utf-8"

    def __init__(self):
        super().__init__()
        self.parts = []

    def isatty(self):
        return True

    def write(self, text):
        self.parts.append(text)
        return super().write(text)


def test_text_streams_to_a_terminal(wing, checkpoint, monkeypatch, capsys):
    arguments = ("generate", "--checkpoint", checkpoint, *PROMPT, "--tokens", 30, "--seed", 4)
    run(wing, *arguments)
    whole = capsys.readouterr().out
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run(wing, *arguments) == 0
    assert terminal.getvalue() == commands.harmless(whole) and len(terminal.parts) > 20


def test_training_draws_a_bar_on_a_terminal(wing, tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(wing, "train", *SMALL, "--data", "samples", "--out", tmp_path) == 0
    bar = [part for part in terminal.parts if part.startswith("\r") and "loss" in part][-1]
    assert "━" in bar and "100%" in bar and "tokens/s" in bar and "held-out" in bar and "lr" in bar


def test_eval_measures_the_held_out_part(runs, capsys):
    results = {}
    for folder in runs.values():
        for wing in WINGS:
            for split in ([], ["--split", "train"]):
                command = ("eval", "--checkpoint", folder, "--data", "samples", "--json", "--device", "cpu", *split)
                assert run(wing, *command) == 0
                result = json.loads(capsys.readouterr().out)
                assert {"loss", "perplexity", "bits_per_byte"} <= set(result)
                assert result["perplexity"] == pytest.approx(2.718281828459045 ** result["loss"])
                assert result["bits_per_byte"] == pytest.approx(result["loss"] / 0.6931471805599453, rel=1e-3)
                assert result["split"] == (split[1] if split else "validation")
                results[folder, wing, bool(split)] = result["loss"]
        losses = [results[folder, wing, False] for wing in WINGS]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5) and losses[0] != results[folder, WINGS[0], True]


def test_eval_prints_words_for_people(wing, checkpoint, capsys):
    assert run(wing, "eval", "--checkpoint", checkpoint, "--data", "samples") == 0
    out = capsys.readouterr().out
    assert "nats per token" in out and "perplexity" in out and "bits per byte" in out


def test_inspect_counts(wing, checkpoint, capsys):
    assert run(wing, "inspect", "--preset", "showcase", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 856_832 == sum(facts["parts"].values())
    # Two operations a weight of the matrix products, plus attention over 64.5 tokens on average in each of 4 layers.
    assert facts["flops_per_token"]["forward"] == 2 * (4 * (4 * 128**2 + 2 * 128 * 512) + 128 * 256) + 4 * 4 * 128 * 64.5
    assert facts["memory_training"]["parameters"] == 4 * 856_832
    assert run(wing, "inspect", "--checkpoint", checkpoint) == 0
    out = capsys.readouterr().out
    assert "query_key_value" in out and "96 x 32" in out and "33,280 parameters" in out and "FLOPs" in out and "MiB" in out


def test_every_setting_is_an_option_with_help(wing, capsys):
    for command, kinds in (("train", (ModelConfig, TrainConfig)), ("generate", (SampleConfig,))):
        with pytest.raises(SystemExit) as stop:
            run(wing, command, "--help")
        out = capsys.readouterr().out
        assert stop.value.code == 0
        for field in (field for kind in kinds for field in dataclasses.fields(kind)):
            assert "--" + field.name.replace("_", "-") in out


def test_options_reach_the_config(wing, tmp_path):
    options = ["--width", "24", "--heads", "3", "--tie-embeddings", "--no-norm-bias", "--lr", "0.01", "--seed", "5"]
    assert run(wing, "train", *SMALL, *options, "--steps", 1, "--data", "samples", "--out", tmp_path) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    expected = {"width": 24, "heads": 3, "tie_embeddings": True, "norm_bias": False, "layers": 2}
    assert expected.items() <= config["model"].items()
    assert {"lr": 0.01, "seed": 5, "steps": 1, "batch": 2}.items() <= config["train"].items()


def test_a_run_goes_on_with_more_steps(wing, tmp_path, capsys):
    arguments = ("train", "--out", tmp_path)
    assert run(wing, *arguments, *SMALL, "--data", "samples") == 0
    assert run(wing, *arguments, "--resume", "--steps", 8) == 0
    assert [row["step"] for row in log.read_rows(tmp_path / "log.jsonl")] == list(range(1, 9))
    other = WINGS[1 - WINGS.index(wing)]
    assert run(other, *arguments, "--resume", "--steps", 9, "--data", "samples") == 0
    assert checkpoint_file.read(tmp_path)[1]["step"] == 9
    capsys.readouterr()


def test_chat_reads_a_pipe(runs, monkeypatch, capsys):
    torch_wing, folder = WINGS[1], runs["torch_impl"]
    outputs = []
    for typed in ("hello\n", "other\n\n/reset\nhello\n", "hello\n/reset\nhello\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert run(torch_wing, "chat", "--checkpoint", folder, "--tokens", 12, "--greedy") == 0
        outputs.append(capsys.readouterr().out)
    assert len(outputs[0]) > 5 and outputs[1].endswith(outputs[0]) and outputs[2] == outputs[0] * 2


def test_chat_survives_ctrl_c_and_what_is_no_text(runs, monkeypatch, capsys):
    def pressed(stream, row, token):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n\udcff\nhello\n"))
    monkeypatch.setattr(commands.Stream, "push", pressed)
    assert run(WINGS[1], "chat", "--checkpoint", runs["torch_impl"]) == 0
    assert "surrogate" in capsys.readouterr().err


# What can be wrong


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


def test_numpy_has_no_16_bit_formats(places, capsys):
    argv = [places.get(part, part) for part in [*TRAIN, "--dtype", "bfloat16"]]
    assert "float32" in one_line_error(capsys, run(WINGS[0], *argv))


def test_chat_is_not_a_command_of_numpy(capsys):
    assert "generate" in one_line_error(capsys, run(WINGS[0], "chat", "--checkpoint", "run"))


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


def test_errors_are_one_line_whatever_they_quote(capsys):
    assert cli.fail("a\nb\n c") == 2 and capsys.readouterr().err == "error: a b c\n"


# As a person starts them


def start(wing, *argv, **keywords):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", str(wing), *map(str, argv)]
    return subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)


def test_ctrl_c_saves_and_says_how_to_go_on(wing, tmp_path):
    process = start(wing, "train", *SMALL, "--data", "samples", "--out", tmp_path, "--steps", 10**6, "--eval-every", 0)
    deadline = time.monotonic() + 60
    while not log.read_rows(tmp_path / "log.jsonl") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and out == ""
    assert f"python -m {wing} train --resume --out {tmp_path}" in err
    step = checkpoint_file.read(tmp_path)[1]["step"]
    assert log.read_rows(tmp_path / "log.jsonl")[-1]["step"] == step and (tmp_path / "training_curve.png").exists()
    assert run(wing, "train", "--resume", "--out", tmp_path, "--steps", step + 2) == 0
    assert [row["step"] for row in log.read_rows(tmp_path / "log.jsonl")] == list(range(1, step + 3))


def test_errors_show_no_traceback():
    process = start(WINGS[1], "inspect", "--preset", "huge")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == "" and err.count("\n") == 1 and err.startswith("error: ")


def test_a_closed_pipe_ends_quietly():
    process = start(WINGS[0], "inspect", "--preset", "showcase")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 141
    process.stderr.close()
