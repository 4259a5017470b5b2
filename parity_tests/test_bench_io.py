"""The bench of data and checkpoints: its rows, its gate, and what the report makes of them."""

import numpy as np
import pytest

from bench import io, plan, rows, worker

STAMP = {"run": "r", "time": "t", "commit": "c", "dirty": False, "environment": {}}


def measured(monkeypatch):
    """Rows of all jobs of the tiny model, measured for a moment."""
    monkeypatch.setattr(io, "TOKENS", 1 << 16)
    found = []
    for job in io.jobs("tiny", 2, 32, "cpu"):
        answer = worker.answer(job | {"budget": 0.001, "least": 1, "allocator": "default"})
        found += rows.combine(job, [answer], STAMP)
    return found


def test_rows_and_report(monkeypatch):
    found = measured(monkeypatch)
    for row in found:
        rows.check(row)
    assert {(row["name"], row["mode"]) for row in found} == {
        ("data", "load"), ("data", "step"), ("checkpoint", "copy"), ("checkpoint", "save"), ("checkpoint", "load")}
    assert all(row["status"] == "ok" and row["parity"]["worst"] == 0 for row in found)
    (text,) = io.sections(found, {})
    assert "## Data and checkpoints" in text and text.count("| tiny | ") == 5 and "save, MB/s" in text
    assert io.sections([], {}) == []


def test_a_slow_loader_is_a_problem():
    def row(mode, speed):
        return {"kind": "io", "name": "data", "status": "ok", "implementation": "torch", "dtype": "float32", "mode": mode,
                "shape": {"preset": "tiny"}, "tokens_per_second": speed}

    assert io.problems([row("load", 1000), row("step", 49)]) == []
    assert io.problems([row("load", 1000), row("step", 51)]) == ["data torch float32 tiny: loading is 19.6 times training, not 20"]


def test_wrong_batches_and_checkpoints_get_no_time(monkeypatch):
    import numpy_ref.training.checkpoint as checkpoint
    import torch_impl.data.batches as batches

    monkeypatch.setattr(io, "TOKENS", 1 << 16)
    right, load = batches.batch, checkpoint.load
    data, saved = (next(job for job in io.jobs("tiny", 2, 32, "cpu") if job["name"] == name and job["implementation"] == side)
                   for name, side in (("data", "torch"), ("checkpoint", "numpy")))
    monkeypatch.setattr(batches, "batch", lambda tokens, position, *rest: right(tokens, position + 1, *rest))
    assert worker.answer(data)["status"] == "parity_failed"

    def wrong(folder, **options):
        run = load(folder, **options)
        run.params["output.weight"] = run.params["output.weight"] + np.float32(1e-3)
        return run

    monkeypatch.setattr(checkpoint, "load", wrong)
    assert worker.answer(saved)["status"] == "parity_failed"


@pytest.mark.parametrize("only, there", [((), True), (("io",), True), (("data",), True), (("training",), False)])
def test_the_plan_has_them(only, there):
    assert any(group[0]["kind"] == "io" for group in plan.groups(plan.Options(only=only))) == there
