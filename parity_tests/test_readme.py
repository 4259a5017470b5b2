"""The README can't drift from the code: its commands run, its links lead somewhere, its table names what there is."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

import numpy_ref.__main__ as numpy_side
import torch_impl.__main__ as torch_side
from parity_tests.components_table import written

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SIDES = {"numpy_ref": numpy_side.main, "torch_impl": torch_side.main}

# What makes each command short, without changing what it does.
SHORT = {
    "train": "--layers 1 --width 32 --heads 2 --feed-forward 32 --context 32 --eval-tokens 512 --warmup 0",
    "generate": "--tokens 8",
    "chat": "--tokens 8",
    "sft": "--examples 8 --held-out-examples 4 --steps 2 --batch 4 --judge 2",
    "answers": "--limit 2 --samples 2 --tokens 4",
    "reward": "--pairs 8 --held-out-pairs 4 --steps 2 --batch 4",
    "dpo": "--pairs 8 --held-out-pairs 4 --steps 2 --batch 4",
    "judge": "--pairs 8 --prompts 2 --samples 2",
    "grpo": "--prompts 2 --group 2 --steps 1 --eval-prompts 2 --eval-samples 2",
    "concepts": "--steps 2 --diffusion-steps 2 --autoencoder-steps 2 --width 8 --held-out 4",
    "thoughts": "--arm thoughts --steps 2 --batch 4 --width 8 --heads 2 --hops 2",
    "context": "--seeds 1 --steps 1 --batch 4 --width 4 --heads 2 --pairs 3 --span 2",
    "hyperbolic": "--size tiny --steps 1",
    "ppo": "--prompts 2 --group 2 --steps 1 --eval-prompts 2 --eval-samples 2",
}


def commands():
    """Every ``python -m wing command ...`` of the README's shell blocks, in order."""
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("python -m "):
                yield shlex.split(line, comments=True)[2:]


def test_the_commands_run_as_written(tmp_path, monkeypatch, capsys):
    """All of them in one folder, one after the other, as a reader would; only sizes are reduced."""
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))
    seen = set()
    for wing, command, *arguments in commands():
        if command == "train" and "--resume" not in arguments:
            arguments = [*arguments, *SHORT["train"].split(), "--steps", "2"]
        elif command == "train":
            arguments = [*arguments, "--steps", "3"]
        else:
            arguments += SHORT.get(command, "").split()
        assert SIDES[wing]([command, *arguments]) == 0, capsys.readouterr().err
        seen.add(command)
    assert seen == {
        "train", "generate", "eval", "inspect", "chat", "quantize", "attention", "tokenizer", "plot", "sft", "answers", "adapt",
        "reward", "judge", "dpo", "grpo", "ppo", "concepts", "story", "thoughts", "context", "hyperbolic",
    }  # fmt: skip


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`make [a-z]+|^make [a-z]+", README, re.MULTILINE)))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"the README says make {target}"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_table_lists_every_component_and_its_planted_bugs():
    assert README == written(README), "run python -m parity_tests.components_table"
