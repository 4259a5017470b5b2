"""The experiments of fine-tuning, made short: every run leaves its figures, and the report shows them."""

import dataclasses
import json

import pytest

from bench import finetuning


@pytest.fixture
def short(monkeypatch):
    """Two steps of everything, on a handful of examples."""
    settings, data = finetuning.settings_of, finetuning.data_of

    def few_steps(kind, name, seed):
        train_config, sft_config = settings(kind, name, seed)
        return dataclasses.replace(train_config, steps=2, batch=4, sample_every=1), sft_config

    def few_examples(kind, seed):
        training, held_out = data(kind, seed)
        return training[::200], {figure: group[:3] for figure, group in held_out.items()}

    monkeypatch.setattr(finetuning, "BASE_STEPS", 2)
    monkeypatch.setattr(finetuning, "settings_of", few_steps)
    monkeypatch.setattr(finetuning, "data_of", few_examples)


def test_experiments_report_what_came_out(tmp_path, short, capsys):
    arguments = ["--seeds", "1", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert finetuning.main(arguments) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    for name in (*finetuning.MASKING, *finetuning.CURRICULA):
        assert f"| {name} | 0.0%" in text, name
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    for runs in (*found["masking"].values(), *found["curricula"].values()):
        (one,) = runs
        assert [point["step"] for point in one["curve"]] == [0, 1, 2] and one["end"] == one["curve"][-1]
        assert 0 <= one["end"]["all"] <= 1 and one["end"]["nats"] > 0
    assert all((tmp_path / "out" / f"{kind}.png").stat().st_size > 10_000 for kind in ("masking", "curricula"))
    said = capsys.readouterr().err.count("exact match")
    assert finetuning.main(arguments) == 0  # nothing is trained again
    assert said == 8 and "exact match" not in capsys.readouterr().err
