"""The speedrun of the bench: the baseline is nanoGPT's recipe, curves are read right, the ladder ends at the preset."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bench import plan, rows, speedrun, worker
from numpy_ref.presets import preset

STAMP = {"run": "r", "time": "t", "commit": "c", "dirty": False, "environment": {}}
SHORT = speedrun.LADDER[0], speedrun.LADDER[1], speedrun.Step("short", {"layers": 1}, {"batch": 4}), speedrun.LADDER[-1]


@pytest.fixture
def quick(monkeypatch):
    """Everything a thousandth of its length."""
    model, train = speedrun.RECIPE
    monkeypatch.setattr(speedrun, "RECIPE", (replace(model, layers=1, width=16, context=16), replace(train, steps=4)))
    monkeypatch.setattr(speedrun, "LADDER", SHORT)
    monkeypatch.setattr(speedrun, "PACE", 0.0)
    monkeypatch.setattr(speedrun, "SEEN", 100)
    model, train = preset("tiny")
    monkeypatch.setattr(speedrun, "preset", lambda name: (model, replace(train, steps=3)))


def jobs(**options):
    return [job for (job,) in speedrun.groups(plan.Options(**options))]


def test_rows_and_report(quick, tmp_path):
    """Both baselines learn the same thing, each run is as long as it says, and the table names every step."""
    found = []
    for job in jobs(data="samples"):
        job["shape"]["points"] = 2
        answer = worker.answer(job | {"cache": str(tmp_path), "allocator": "default"})
        assert answer["status"] == "ok", answer
        found += rows.combine(job, [json.loads(json.dumps(answer))], STAMP)
    for row in found:
        rows.check(row)
    plain, ours, short, last = found
    assert plain["notes"]["steps"] == 4 and last["notes"]["steps"] == 3
    assert ours["notes"]["steps"] >= 1 and ours["notes"]["parameters"] == plain["notes"]["parameters"]
    assert short["shape"]["step"] == "short" and short["notes"]["parameters"] == plain["notes"]["parameters"]
    (text,) = speedrun.sections(found, ["speedrun.png"])
    assert "## Speedrun: samples" in text and "![speedrun]" in text
    assert [line.split(" | ")[0][2:] for line in text.splitlines() if line.startswith("| ")][2:] == [s.name for s in SHORT]
    assert speedrun.picture(found) is not None and speedrun.picture(found[1:]) is None
    assert list(speedrun.sections(found[1:], [])) == []  # nothing to compare with


def test_our_code_follows_the_recipe_step_for_step():
    """Plain PyTorch and ours from the same weights on the same batches: the same losses, so that speed is all that differs."""
    text = type("Text", (), {"train": np.random.default_rng(0).integers(0, 97, 5000).astype(np.uint8)})
    model, train = replace(speedrun.RECIPE[0], layers=2, width=32), replace(speedrun.RECIPE[1], lr=1e-2, warmup=2)
    plain, ours = speedrun.Plainly(text, model, train), speedrun.Ours(text, model, train)
    first = plain.first(), ours.first()
    assert set(first[0]) == set(first[1]) == set(ours.reference())
    for step in range(6):
        plain.step(step)
        ours.step(step)
        assert plain.loss(text.train[:500]) == pytest.approx(ours.loss(text.train[:500]), rel=1e-4)


def test_a_wrong_model_gets_no_time(quick, tmp_path, monkeypatch):
    """The baseline of another activation: refused by the gate before anything is trained."""
    import bench.plain as plain

    monkeypatch.setattr(plain.F, "gelu", plain.F.relu)
    monkeypatch.setattr(speedrun, "learnt", lambda *_: pytest.fail("trained"))
    job = jobs(data="samples")[0] | {"cache": str(tmp_path), "allocator": "default"}
    assert worker.answer(job)["status"] == "parity_failed"


def test_the_recipe_is_the_published_one():
    model, train = speedrun.RECIPE
    assert (model.layers, model.heads, model.width, model.context, model.dropout) == (4, 4, 128, 64, 0.0)
    assert (train.steps, train.batch, train.lr, train.beta2, train.warmup) == (2000, 12, 1e-3, 0.99, 100)
    assert train.lr * train.final_lr == pytest.approx(1e-4) and train.optimizer == "adamw"


def test_the_ladder_leads_to_the_preset():
    """Every line changes the line before, and what they add up to is the preset, but for the number of steps."""
    settings = [speedrun.configs(number) for number in range(len(speedrun.LADDER))]
    assert settings[0] == settings[1] == speedrun.RECIPE
    model, train = speedrun.RECIPE
    for step in speedrun.LADDER[:-1]:
        if not step.aside:
            model, train = replace(model, **step.model), replace(train, **step.train)
    last = preset("speedrun")
    assert replace(model, norm_bias=True) == last[0]  # an RMS norm has no bias, whatever the setting says
    same = ("batch", "lr", "warmup", "final_lr", "schedule", "optimizer", "momentum", "beta1", "beta2", "weight_decay", "ema")
    assert {name: getattr(train, name) for name in same} == {name: getattr(last[1], name) for name in same}


@pytest.mark.parametrize(
    "curve, target, seconds",
    [([[1, 3.0], [2, 2.0], [4, 1.0]], 1.5, 3.0), ([[1, 3.0], [2, 2.0]], 2.0, 2.0), ([[5, 1.0]], 2.0, 5), ([[5, 3.0]], 2.0, None)],
)
def test_when_a_loss_is_reached(curve, target, seconds):
    assert speedrun.reached(curve, target) == seconds


def test_curves_end_with_the_run():
    """As many points as asked for, the last after the last step, the clock only ever forward."""
    class Counting:
        train = replace(speedrun.RECIPE[1], steps=7)
        taken = []

        def step(self, number):
            self.taken.append(number)

        def loss(self, tokens):
            return len(self.taken)

    _, curve = speedrun.learnt(Counting(), np.arange(10), 3)
    assert [loss for _, loss in curve] == [3, 5, 7] and Counting.taken == list(range(7))
    assert [seconds for seconds, _ in curve] == sorted(seconds for seconds, _ in curve)
