"""The experiments with rewards, the pipeline and the demo's second act, made short: they run, leave their figures, go on."""

import dataclasses
import json
import math
import shutil

import pytest
import torch

from bench import pipeline, reinforcement, reinforcement_report
from numpy_ref.config import ModelConfig
from parity_tests import second_act
from torch_impl.model.initialise import initialise

TINY = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16}


@pytest.fixture
def short(monkeypatch):
    """One or two steps of everything, on a handful of prompts."""
    few = {"prompts": 4, "eval_prompts": 2, "eval_samples": 8}
    monkeypatch.setattr(reinforcement, "MODEL", dataclasses.replace(reinforcement.MODEL, **TINY))
    monkeypatch.setattr(reinforcement, "SMALL", dataclasses.replace(reinforcement.SMALL, **TINY))
    monkeypatch.setattr(reinforcement, "GRPO", dataclasses.replace(reinforcement.GRPO, **few))
    monkeypatch.setattr(reinforcement, "PPO", dataclasses.replace(reinforcement.PPO, **few))
    for name, value in {"ASKED": 3, "CLIMBED": 4, "LABELS": 8, "TAUGHT": 2, "LONGER": 5, "UPDATES": 2, "CHASED": 1, "COMPARED": 4, "LEXICAL": 2}.items():
        monkeypatch.setattr(reinforcement, name, value)
    monkeypatch.setattr(reinforcement, "PAIRS", {"few pairs": (8, 1), "many pairs": (16, 1)})
    monkeypatch.setattr(reinforcement, "PRICES", (0.0, 0.05))
    monkeypatch.setattr(reinforcement.pictures, "training", lambda *_: None)  # half a second each, and tested elsewhere
    few = {"steps": 1, "longer": 2, "updates": 1}
    rungs = {"longer digits": {"sort-3": 4, "sort-4": 4}, "countdown": {"countdown-3": 8}}
    rungs = {name: dataclasses.replace(reinforcement.RUNGS[name], shown=shown, **few) for name, shown in rungs.items()}
    monkeypatch.setattr(reinforcement, "RUNGS", rungs)


def test_experiments_report_what_came_out(tmp_path, short, capsys):
    arguments = ["--seeds", "1", "--ladder", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert reinforcement.main(arguments) == 0
    text = (tmp_path / "out" / "rl.md").read_text()
    for words in ("then GRPO", "then PPO", "more steps on the same", "| 0.05 |", "few pairs", "| countdown: instead,", "| sort-7 |", "| longer digits: GRPO, difficulty adapted |"):
        assert words in text, words
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [row["experiment"] for row in rows] == ["sorting"] * 4 + ["lexical"] * 2 + ["preference"] * 6 + ["ladder"] * 7
    grpo = next(row for row in rows if row["name"] == "GRPO")
    assert [point["step"] for point in grpo["curve"]] == [0, 1, 2] and 0 <= grpo["curve"][-1]["greedy"] <= 1
    chased = next(row for row in rows if row["name"] == "few pairs, price 0.1")
    assert len(chased["log"]["reward_score"]) == 1 and chased["log"]["reward_right"][0] is not None
    assert all((tmp_path / "out" / f"{name}.png").stat().st_size > 10_000 for name in ("sorting", "lexical", "preference", "ladder"))
    said = capsys.readouterr().err.count("seed 0")
    assert said == 19 and reinforcement.main(arguments) == 0 and "seed 0" not in capsys.readouterr().err  # nothing is trained again
    # One experiment alone leaves the rows of the others as they are, though nothing is left of their runs.
    shutil.rmtree(tmp_path / "work" / "sorting")
    assert reinforcement.main([*arguments[:2], "--only", "lexical", *arguments[3:]]) == 0
    assert [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()] == rows


def test_rows_of_other_seeds_and_experiments_stay():
    """A run that was made again replaces its own row; all other rows, of its experiment too, stay as they are."""
    old = [{"experiment": kind, "name": name, "seed": seed, "old": True} for kind in ("sorting", "ladder") for seed in (0, 1) for name in "ab"]
    new = [{"experiment": "ladder", "name": "b", "seed": 0}, {"experiment": "lexical", "name": "c", "seed": 0}]
    found = reinforcement_report.merged(old, new)
    assert sorted(map(str, found)) == sorted(map(str, [row for row in old if (row["experiment"], row["name"], row["seed"]) != ("ladder", "b", 0)] + new))
    assert [(row["experiment"], row["seed"]) for row in found] == [
        ("sorting", 0), ("sorting", 0), ("sorting", 1), ("sorting", 1), ("lexical", 0), *[("ladder", 0)] * 2, *[("ladder", 1)] * 2,
    ]  # fmt: skip
    assert reinforcement_report.merged(old, []) == old


@pytest.mark.parametrize("price", (0.01, 0.03, 0.3))
def test_the_best_policy_under_a_price(price):
    """No other share of letters has more reward - price x distance, and where it lies the derivative is 0."""
    share, distance = reinforcement_report.optimum(price)
    first = reinforcement_report.LETTERS / reinforcement_report.BYTES

    def worth(q):
        return q - price * 16 * (q * math.log(q / first) + (1 - q) * math.log((1 - q) / (1 - first)))

    assert worth(share) == pytest.approx(share - price * distance)
    assert all(worth(share) > worth(q) for q in (share * 0.99, 1 - (1 - share) * 0.99, share * 0.5))
    assert distance <= (share - first) / price + 1e-12  # as the gain has to pay for it


def test_the_pipeline_goes_from_nothing_to_a_report(tmp_path, monkeypatch, capsys):
    small = "--layers 1 --width 16 --heads 2 --feed-forward 16 --context 40 --batch 2 --warmup 0 --eval-tokens 256"
    changes = {"--batch 64": "--batch 2", "--pairs 10000": "--pairs 8 --held-out-pairs 4",
               "--examples 100": "--examples 8 --held-out-examples 2", "--minibatches 4": "--prompts 4 --group 2 --eval-prompts 2"}  # fmt: skip
    stages = {}
    for stage, (command, steps) in pipeline.STAGES.items():
        for old, new in changes.items():
            command = command.replace(old, new)
        stages[stage] = (f"{command} {small}" if stage == "base" else command, steps)
    monkeypatch.setattr(pipeline, "STAGES", stages)
    assert pipeline.main(["--out", str(tmp_path), "--steps", "1"]) == 0
    text = (tmp_path / "report.md").read_text()
    for words in ("| base | 1 |", "| grpo | 1 |", "held-out pairs in the right order", "sort ", "then PPO", "chat --checkpoint"):
        assert words in text, words
    assert (tmp_path / "stages.png").stat().st_size > 5_000
    assert all((tmp_path / stage / "training_curve.png").exists() for stage in pipeline.STAGES)
    capsys.readouterr()
    assert pipeline.main(["--out", str(tmp_path), "--steps", "1"]) == 0  # nothing is done twice
    assert capsys.readouterr().out.count("finished before") == len(pipeline.STAGES)


def test_without_options_each_stage_takes_its_own_steps(tmp_path, monkeypatch):
    """As `make pipeline` calls it: the first command is the one that is written down; a failing one ends the pipeline."""
    called = []
    monkeypatch.setattr(pipeline.torch_side, "main", lambda words: called.append(words) or 2)
    monkeypatch.chdir(tmp_path)
    assert pipeline.main([]) == 2
    (words,) = called
    assert words[:3] == ["train", "--preset", "showcase"] and words[-4:] == ["--steps", "300", "--out", "runs/pipeline/base"]


def test_the_second_act_of_the_demo(tmp_path, monkeypatch, capsys):
    config = ModelConfig(vocab_size=256, context=40, **TINY)
    base = type("Run", (), {"model_config": config, "params": initialise(config, 0, torch.float32)})
    monkeypatch.setattr(second_act, "ASKED", 6)
    monkeypatch.setattr(second_act, "SETTINGS", dataclasses.replace(second_act.SETTINGS, prompts=4, group=2, eval_prompts=2))
    titles = []
    before, after = second_act.perform(base, tmp_path, "cpu", lambda number, words: titles.append(number), steps=1)
    assert titles == [6, 7] and set(before) == set(after) >= {"greedy", "pass_1", "pass_8"}
    said = capsys.readouterr().out
    assert "6 held-out prompts" in said and said.count("sort ") == second_act.SHOWN
    assert (tmp_path / "rewarded" / "chat.json").exists()  # so that `chat` knows how to ask it
