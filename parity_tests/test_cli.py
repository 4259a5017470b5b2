"""The commands of both wings: what they print, write and stream, and how they are stopped."""

import dataclasses
import fcntl
import io
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from numpy_ref import checkpoint_file, commands, log
from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig
from parity_tests.children import PATIENCE, running, wait_for
from parity_tests.trained import PROMPT, SMALL, checkpoint, run, runs, wing  # noqa: F401  (fixtures)
from parity_tests.wings import WINGS


def test_train_fills_the_run_folder(checkpoint):
    assert {path.name for path in checkpoint.iterdir()} == {
        "config.json", "log.jsonl", "checkpoint.npz", "checkpoint-00000003.npz", "training_curve.png", "data"}
    assert (checkpoint / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    rows = log.read_rows(checkpoint / "log.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "val_loss" in row] == [3, 6]


def test_the_other_wing_reads_the_run(runs, capsys):
    """Greedy text of both wings from both checkpoints: the same words."""
    for folder in runs.values():
        texts = []
        for wing in WINGS:
            options = (*PROMPT, "--greedy", "--tokens", 30, "--device", "cpu")
            assert run(wing, "generate", "--checkpoint", folder, *options) == 0
            texts.append(capsys.readouterr().out)
        assert texts[0] == texts[1] and texts[0].startswith("The ")


def test_generate_prints_the_text_alone(wing, checkpoint, capsys):
    outputs = []
    path = checkpoint / "checkpoint.npz"
    for seed in (1, 1, 2):
        assert run(wing, "generate", "--checkpoint", path, *PROMPT, "--seed", seed, "--tokens", 20) == 0
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


def test_the_moving_average_answers_when_it_is_asked(wing, runs, checkpoint, tmp_path, capsys):
    """--ema: the text and the loss are those of a model whose weights are the average; without it nothing changes."""
    module = wing.module("training.checkpoint")
    other = module.load(checkpoint)
    other.params = {name: 1.5 * value for name, value in other.params.items()}
    kept = module.load(checkpoint)
    kept.states["ema"] = other.params
    for name, saved in (("kept", kept), ("other", other)):
        module.save(tmp_path / name, saved)
    found = {}
    for name, folder, flags in (
        ("plain", checkpoint, ()), ("kept", tmp_path / "kept", ()), ("average", tmp_path / "kept", ("--ema",)),
        ("other", tmp_path / "other", ()),
    ):  # fmt: skip
        where = ("--checkpoint", folder, "--device", "cpu", *flags)
        assert run(wing, "generate", *where, *PROMPT, "--greedy", "--tokens", 30) == 0
        text = capsys.readouterr()
        assert ("moving average" in text.err) == bool(flags)
        assert run(wing, "eval", *where, "--data", "samples", "--json") == 0
        found[name] = text.out, json.loads(capsys.readouterr().out)["loss"]
    assert found["plain"] == found["kept"] and found["average"] == found["other"]
    assert found["average"][0] != found["plain"][0] and found["average"][1] != found["plain"][1]


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
    weights = 4 * (4 * 128**2 + 2 * 128 * 512) + 128 * 256
    assert facts["flops_per_token"]["forward"] == 2 * weights + 4 * 4 * 128 * 64.5
    assert facts["memory_training"]["parameters"] == 4 * 856_832
    assert run(wing, "inspect", "--checkpoint", checkpoint) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("query_key_value", "96 x 32", "33,280 parameters", "FLOPs", "MiB"))


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


def test_chat_keeps_the_system_text_and_obeys(runs, wing, monkeypatch, capsys):
    """The system text stays when old turns must go, and commands change how answers are sampled."""
    lines = ["one two three four", "/temperature 0.5", "/tokens 3", "five six seven", "/help", "/nothing", "/tokens many", "x" * 99]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*lines, "/quit", "never read"])))
    assert run(wing, "chat", "--checkpoint", runs[str(wing)], "--tokens", 9, "--system", "Be brief.") == 0
    err = capsys.readouterr().err
    for words in ("temperature 0.5", "tokens 3", "/reset", "no command /nothing", "/tokens needs one number", "oldest turns", "do not fit"):
        assert words in err, words


def test_a_conversation_forgets_its_oldest_turns_first():
    from numpy_ref.chat import Conversation
    from numpy_ref.tokenizers import byte

    class Bytes:
        encode = staticmethod(byte.encode)

    talk = Conversation(Bytes, ModelConfig(context=40), "be kind", SampleConfig(seed=4))
    talk.turns = ["first turn\n", "second\n"]
    assert bytes(talk.prompt("hi").tolist()) == b"be kind\nsecond\nhi"
    assert [talk.draws().seed, talk.draws().seed] == [4, 5]


def test_chat_in_a_terminal(runs):
    """A person at a pseudo-terminal: the prompt, an answer that Ctrl-C stops, a second answer, Ctrl-D."""
    import pty

    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] |= termios.NOFLSH  # else the kernel may drop what is written while it delivers Ctrl-C
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    command = [sys.executable, "-m", "torch_impl", "chat", "--checkpoint", runs["torch_impl"], "--tokens", "100000", "--seed", "1"]
    process = subprocess.Popen(
        list(map(str, command)), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    try:
        everything = _heard(master, lambda text: text.endswith(b"> "), 0.3)
        for _ in range(2):
            os.write(master, b"Hello\n")
            everything += _heard(master, lambda text: b"Hello" in text and len(text) > 300)  # it would go on for minutes
            os.write(master, b"\x03")
            everything += _heard(master, lambda text: text.endswith(b"\n> "), 0.3)
        os.write(master, b"\x04")
        assert process.wait(timeout=PATIENCE) == 0
        assert b"Traceback" not in everything
    finally:
        process.kill()
        os.close(master)


def _heard(terminal, enough, silence=0.0):
    """What a terminal shows until it is ``enough`` and nothing more comes for ``silence`` seconds."""
    text, deadline = b"", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        more = select.select([terminal], [], [], silence if enough(text) else 0.1)[0]
        if enough(text) and not (more and silence):
            return text
        if more:
            text += os.read(terminal, 4096)
    raise AssertionError(f"not heard; the last was {text[-300:]!r}")


def test_attention_is_drawn_and_saved(wing, checkpoint, tmp_path, capsys):
    import numpy as np

    out = tmp_path / "heads.png"
    assert run(wing, "attention", "--checkpoint", checkpoint, *PROMPT, "--layer", 1, "--head", 0, "--out", out) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and "wrote" in capsys.readouterr().err
    with np.load(out.with_suffix(".npz")) as saved:
        assert saved["weights"].shape[:2] == (1, 1) and saved["layers"].tolist() == [1] and saved["heads"].tolist() == [0]
        np.testing.assert_allclose(saved["weights"].sum(-1), 1, rtol=1e-5)


def test_guesses_change_no_word(wing, checkpoint, capsys):
    texts = []
    for how in ([], ["--lookup"], ["--draft", checkpoint, "--ahead", 2]):
        arguments = ("generate", "--checkpoint", checkpoint, *PROMPT, "--tokens", 25, "--greedy", "--device", "cpu", *how)
        assert run(wing, *arguments) == 0
        printed = capsys.readouterr()
        texts.append(printed.out)
        assert ("guesses kept" in printed.err) == bool(how)
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_copy_speaks_and_is_measured(wing, checkpoint, bits, tmp_path, capsys):
    assert run(wing, "quantize", "--checkpoint", checkpoint, "--bits", bits, "--group", 16, "--out", tmp_path) == 0
    losses = []
    for other in WINGS:
        assert run(other, "eval", "--checkpoint", tmp_path, "--data", "samples", "--json", "--device", "cpu") == 0
        losses.append(json.loads(capsys.readouterr().out)["bits_per_byte"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert run(wing, "eval", "--checkpoint", checkpoint, "--data", "samples", "--json", "--device", "cpu") == 0
    assert losses[0] == pytest.approx(json.loads(capsys.readouterr().out)["bits_per_byte"], abs=0.2)
    assert run(wing, "generate", "--checkpoint", tmp_path, *PROMPT, "--tokens", 3) == 0
    assert run(wing, "inspect", "--checkpoint", tmp_path) == 0
    capsys.readouterr()
    assert run(wing, "train", "--resume", "--out", tmp_path) == 2
    assert "quantised" in capsys.readouterr().err


def test_chat_survives_ctrl_c_and_what_is_no_text(runs, monkeypatch, capsys):
    def pressed(stream, row, token):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n\udcff\nhello\n"))
    monkeypatch.setattr(commands.Stream, "push", pressed)
    assert run(WINGS[1], "chat", "--checkpoint", runs["torch_impl"]) == 0
    assert "surrogate" in capsys.readouterr().err


def test_ctrl_c_saves_and_says_how_to_go_on(wing, tmp_path):
    argv = ("train", *SMALL, "--data", "samples", "--out", tmp_path, "--steps", 10**6, "--eval-every", 0)
    with running(wing, *argv) as process:
        wait_for(lambda: log.read_rows(tmp_path / "log.jsonl"), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in err and out == ""
    assert f"python -m {wing} train --resume --out {tmp_path}" in err
    step = checkpoint_file.read(tmp_path)[1]["step"]
    assert log.read_rows(tmp_path / "log.jsonl")[-1]["step"] == step and (tmp_path / "training_curve.png").exists()
    assert run(wing, "train", "--resume", "--out", tmp_path, "--steps", step + 2) == 0
    assert [row["step"] for row in log.read_rows(tmp_path / "log.jsonl")] == list(range(1, step + 3))


def test_errors_show_no_traceback():
    with running(WINGS[1], "inspect", "--preset", "huge") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and out == "" and err.count("\n") == 1 and err.startswith("error: ")


def test_a_closed_pipe_ends_quietly():
    with running(WINGS[0], "inspect", "--preset", "showcase") as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(timeout=PATIENCE) == 141
