"""``ppo`` and ``grpo`` at the command line, in both wings, and what they say to options that can't work."""

import json
import re

import pytest

import numpy_ref.__main__ as numpy_side
import torch_impl.__main__ as torch_side
from numpy_ref import cli
from numpy_ref.data import chat_format
from numpy_ref.rl.prompts import FilePrompts, TaskPrompts, adapted_level
from numpy_ref.rl.rewards import Completion, Judge, Model, named
from numpy_ref.tasks.builtin import find
from parity_tests import rl_toys
from parity_tests.rl_toys import SPEECH

WINGS = (numpy_side.WING, torch_side.WING)
both = pytest.mark.parametrize("wing", WINGS, ids=lambda wing: wing.name)
SMALL = ["--steps", "2", "--prompts", "3", "--group", "2", "--tokens", "4", "--eval-prompts", "2", "--eval-samples", "2"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A policy in the chat format, a reward model of it, and comparisons; hardly trained."""
    folder = tmp_path_factory.mktemp("models")
    wing = torch_side.WING
    model = ["--context", "40", "--layers", "1", "--width", "16", "--heads", "2", "--feed-forward", "16", "--batch", "4"]
    run(wing, "train", "--data", "samples", "--out", folder / "base", "--steps", "1", "--device", "cpu", *model)
    run(
        wing, "sft", "--checkpoint", folder / "base", "--data", "sort-3", "--examples", "8", "--held-out-examples", "2",
        "--judge", "0", "--steps", "1", "--out", folder / "policy", "--device", "cpu",
    )  # fmt: skip
    run(
        wing, "reward", "--checkpoint", folder / "policy", "--data", "sort-3", "--pairs", "8", "--held-out-pairs", "4",
        "--steps", "1", "--out", folder / "reward", "--device", "cpu",
    )  # fmt: skip
    return folder


def run(wing, *argv):
    status = cli.main(wing, [str(word) for word in argv])
    assert not status, f"{argv} ended with status {status}"


@both
def test_a_policy_learns_from_a_task(wing, models, tmp_path, capsys):
    out = tmp_path / "grpo"
    run(wing, "grpo", "--checkpoint", models / "policy", "--task", "sort-3", "--out", out, "--device", "cpu", *SMALL)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and "val_greedy" in rows[-1]
    assert (out / "training_curve.png").stat().st_size > 10_000
    assert chat_format.read(out) == SPEECH.chat
    said = capsys.readouterr().err
    assert "none of the held-out prompts is answered right in 2 samples" in said  # it has hardly been trained
    assert "held-out prompts answered right" in said and re.search(r"step 2/2  reward 0\.\d+  held-out \d+\.\d% right", said)
    run(wing, "grpo", "--resume", "--out", out, "--steps", "3", "--device", "cpu")
    run(wing, "generate", "--checkpoint", out, "--prompt", "sort 312=", "--tokens", "3", "--device", "cpu")


@both
def test_ppo_learns_from_a_reward_model_and_a_checker_together(wing, models, tmp_path, capsys):
    out = tmp_path / "ppo"
    run(
        wing, "ppo", "--checkpoint", models / "policy", "--task", "sort-3", "--reward", models / "reward", "--reward",
        "closeness=0.5", "--critic", "critic", "--out", out, "--device", "cpu", *SMALL,
    )  # fmt: skip
    row = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"reward_reward", "reward_closeness", "explained_variance", "kl"} <= set(row)
    run(wing, "ppo", "--resume", "--out", out, "--steps", "3", "--device", "cpu")
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == 3
    run(wing, "generate", "--checkpoint", out, "--prompt", "sort 312=", "--tokens", "3", "--device", "cpu")
    run(wing, "grpo", "--checkpoint", out, "--task", "sort-3", "--out", tmp_path / "more", "--device", "cpu", *SMALL)


def test_prompts_from_files(models, tmp_path):
    """Conversations with answers, and comparisons without: the ones can be checked, the others need a reward model."""
    talk = tmp_path / "talk.jsonl"
    talk.write_text("".join(json.dumps({"prompt": f"say {n}", "completion": str(n)}) + "\n" for n in range(12)))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"prompt": f"say {n}", "chosen": "a", "rejected": "b"}) + "\n" for n in range(12)))
    common = ["--checkpoint", models / "policy", "--device", "cpu", *SMALL]
    run(torch_side.WING, "grpo", "--data", talk, "--out", tmp_path / "talk", *common)
    run(torch_side.WING, "grpo", "--data", pairs, "--reward", models / "reward", "--out", tmp_path / "pairs", *common)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--group", "1", "--task", "sort-3"], "group of at least 2"),
        (["--task", "sort-3", "--reward", "nothing"], "there is no reward 'nothing'"),
        (["--task", "sort-3", "--reward", "math:nothing"], "can't be imported"),
        (["--task", "sort-3", "--reward", "right=much"], "no weight"),
        (["--task", "sort-3", "--reward", "right", "--reward", "right"], "two rewards are called 'right'"),
        (["--task", "sort-3", "--reward", "POLICY"], "not a reward model"),
        (["--task", "sort-3", "--tokens", "40"], "more are to come|do not fit"),
        (["--task", "juggle"], "there is no task"),
        (["--task", "sort-3", "--data", "x.jsonl"], "not both"),
        (["--data", "nowhere.jsonl"], "there is no file"),
        (["--task", "sort-3", "--adaptive", "0.1"], "several tasks"),
        ([], "prompts are missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_can_not_work_are_refused_in_a_line(models, tmp_path, capsys, options, words):
    options = [str(models / "policy") if option == "POLICY" else option for option in options]
    argv = ["grpo", "--checkpoint", str(models / "policy"), "--out", str(tmp_path / "out"), "--device", "cpu", *options]
    assert cli.main(torch_side.WING, argv) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and re.search(words, error), error


def test_prompts_of_a_file_are_checked_before_the_first_step(models, tmp_path, capsys):
    """One that is too long, wherever in the file, by its line; and comparisons, which know no right answer."""
    lines = [json.dumps({"prompt": "say " + "o" * (30 if n == 7 else 1), "completion": "o"}) + "\n" for n in range(12)]
    (tmp_path / "long.jsonl").write_text("".join(lines))
    pairs = [json.dumps({"prompt": f"say {n}", "chosen": "a", "rejected": "b"}) + "\n" for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(pairs))
    common = ["--checkpoint", str(models / "policy"), "--out", str(tmp_path / "out"), "--device", "cpu", *SMALL]
    for name, words in (("long", "line 8: the prompt has 3. tokens, which with 4 new ones"), ("pairs", "no answers, which the reward 'right'")):
        assert cli.main(torch_side.WING, ["grpo", "--data", str(tmp_path / f"{name}.jsonl"), *common]) == 2
        assert re.search(words, capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "out").exists()


@both
def test_a_critic_begins_as_a_reward_model_of_its_shape(wing, models, tmp_path, capsys):
    """Of another shape it is refused by name, and still serves as a reward."""
    wide = ["--context", "40", "--layers", "1", "--width", "32", "--heads", "2", "--feed-forward", "16", "--batch", "4"]
    common = ["--steps", "1", "--device", "cpu"]
    run(torch_side.WING, "train", "--data", "samples", "--out", tmp_path / "base", *wide, *common)
    more = ["--examples", "8", "--held-out-examples", "2", "--judge", "0"]
    run(torch_side.WING, "sft", "--checkpoint", tmp_path / "base", "--data", "sort-3", *more, "--out", tmp_path / "talk", *common)
    more = ["--pairs", "8", "--held-out-pairs", "4"]
    run(torch_side.WING, "reward", "--checkpoint", tmp_path / "talk", "--data", "sort-3", *more, "--out", tmp_path / "wide", *common)
    argv = ["ppo", "--checkpoint", models / "policy", "--task", "sort-3", "--reward", tmp_path / "wide", "--device", "cpu", *SMALL]
    argv = [str(word) for word in argv]
    assert cli.main(wing, [*argv, "--critic", "critic", "--out", str(tmp_path / "a")]) == 2
    assert "width=32 where the policy has 16" in capsys.readouterr().err.splitlines()[-1]
    run(wing, *argv, "--out", tmp_path / "b")


def test_checkpoints_of_the_wrong_kind_are_refused(models, tmp_path, capsys):
    common = ["--out", str(tmp_path / "out"), "--device", "cpu", "--task", "sort-3"]
    for argv, words in (
        (["grpo", "--checkpoint", str(models / "reward"), *common], "reward model"),
        (["grpo", "--checkpoint", str(tmp_path / "none"), *common], "no checkpoint"),
        (["ppo", "--checkpoint", str(models / "policy"), "--reward", str(tmp_path / "none"), *common], "no reward"),
        (["ppo", "--resume", "--out", str(models / "policy")], "no run of `ppo`"),
        (["ppo", *common], "--checkpoint is missing"),
    ):
        assert cli.main(torch_side.WING, argv) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]


def test_prompts_are_a_function_of_their_number():
    source = TaskPrompts([find("sort-3"), find("copy-4")], SPEECH, seed=3)
    assert source.take(10, 6) == source.take(8, 10)[2:8]
    kinds = [prompt.task.kind for prompt in source.take(0, 400)]
    assert 120 < kinds.count("sort") < 280  # both alike, within eight deviations
    assert all(prompt.task.kind == "sort" for prompt in source.take(0, 50, level=0.0))
    assert all(prompt.task.kind == "copy" for prompt in source.take(0, 50, level=1.0))
    half = [prompt.task.kind for prompt in source.take(0, 400, level=0.5)]
    assert 120 < half.count("sort") < 280
    held = {prompt.example.prompt for prompt in source.held_out(20)}
    assert len(held) == 20 and not held & {prompt.example.prompt for prompt in source.take(0, 2000)}


def test_difficulty_follows_the_pass_rate():
    assert adapted_level(1.0, 0.5, 0.2, 5) == 1.0
    assert adapted_level(1.0, 1.0, 0.2, 5) == pytest.approx(1.1)
    assert adapted_level(0.05, 0.0, 0.2, 5) == 0.0 and adapted_level(4.0, 1.0, 0.2, 5) == 4.0


def test_files_are_shuffled_anew_each_time_round():
    class Item:
        def __init__(self, n):
            self.prompt, self.answer = f"say {n}", str(n)

    source = FilePrompts([Item(n) for n in range(20)], SPEECH, seed=1)
    first, second = source.take(0, 18), source.take(18, 18)
    assert {p.ids for p in first} == {p.ids for p in second} and first != second
    assert len({p.ids for p in first}) == 18 and not {p.ids for p in source.held_out(9)} & {p.ids for p in first}


def test_rewards_add_up_by_their_weights():
    prompt = rl_toys.source("sort-3").take(0, 1)[0]
    answer = prompt.example.answer
    right = Completion(prompt, tuple(answer.encode()) + (259,), answer, True)
    cut = Completion(prompt, tuple(answer.encode()), answer, False)
    ids = Model("length", lambda texts: [len(text) for text in texts], 0.1)
    totals, valid, parts, failures = Judge((named("right"), named("closeness", 2.0), ids))([right, cut])
    assert parts["right"] == [1.0, 0.0] and parts["closeness"] == [1.0, 0.75] and not failures and all(valid)
    texts = [len(prompt.ids) + 4, len(prompt.ids) + 3]
    assert totals == pytest.approx([3.0 + 0.1 * texts[0], 1.5 + 0.1 * texts[1]])
