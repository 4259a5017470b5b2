"""The experiments on reward models, made short: everything is trained, judged, drawn and told, and nothing twice."""

import json

import pytest

from bench import finetuning, reward_models
from numpy_ref.reward import judging
from numpy_ref.reward.pictures import kl_of_best_of
from parity_tests.test_bench_finetuning import short  # noqa: F401  (fixture)


@pytest.fixture
def shorter(short, monkeypatch):  # noqa: F811
    """Two steps of everything, on a handful of pairs."""
    few = {"POLICY_STEPS": 2, "POLICY_EXAMPLES": 8, "JUDGED": 12, "ASKED": 3, "PROMPTS": 2, "SAMPLES": 4}
    few |= {"SIZES": {"many pairs": (16, 2), "few pairs": (6, 2)}, "LEARNING": {"batch": 4, "lr": 1e-3}}
    for name, value in few.items():
        monkeypatch.setattr(reward_models, name, value)
    monkeypatch.setattr(reward_models.pictures, "training", lambda *_: None)  # six pictures that nobody looks at


def test_experiments_report_what_came_out(tmp_path, shorter, capsys, monkeypatch):
    asked, sampled = [], judging.sampled_answers

    def answers(*arguments):
        asked.append(arguments)
        return sampled(*arguments)

    monkeypatch.setattr(judging, "sampled_answers", answers)
    arguments = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert reward_models.main(arguments) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    for name in reward_models.SIZES:
        assert len(found[name]) == 3 and all(one["steps"] == 2 and 0 <= one["accuracy"] <= 1 for one in found[name])
    for one in found["best of n"].values():
        assert one["n"] == [1, 2, 4] and one["kl"] == [kl_of_best_of(n) for n in one["n"]]
        assert all(worth <= best for worth, best in zip(one["worth"], one["oracle"]))
        assert one["worth"][0] == pytest.approx(one["oracle"][0])  # of one answer there is no choice
        assert one["reward"] == sorted(one["reward"])
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"| {reward_models.SIZES['few pairs'][0]} | 2 | " in text and "| n = 4 |" in text
    for name in ("calibration", "accuracy", "best_of_n"):
        assert f"({name}.png)" in text and (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
    assert len(asked) == 1, "the same answers for everybody"
    said = capsys.readouterr().err.count("pairs, seed")
    assert reward_models.main(arguments) == 0  # nothing is trained again
    assert said == 6 and "seed" not in capsys.readouterr().err and len(asked) == 1
    stopped = tmp_path / "work" / "many-pairs-0"
    assert finetuning.finished(stopped, 2) and not finetuning.finished(stopped, 3)
