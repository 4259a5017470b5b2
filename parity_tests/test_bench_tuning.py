"""The bench of fine-tuning: whole runs and the memory of the loss, on small jobs, gate included."""

import numpy as np
import pytest

from bench import plan, rows, tuning, worker
from parity_tests.test_bench_kinds import QUICK, made


def job(number, place=0, **shape):
    """The job at a place of the planned group of that number, made small."""
    found = tuning.groups(plan.Options(peers=True))[number][place]
    return found | QUICK | {"shape": found["shape"] | shape}


SMALL = {"vocabulary": 40, "context": 16, "batch": 3, "steps": 4, "median": 3}


def small_run(wing, how, tmp_path):
    return job(0, **SMALL, how=how) | {"implementation": wing, "dtype": "float32", "cache": str(tmp_path)}


@pytest.mark.parametrize("wing", ["torch", "numpy"])
def test_runs_are_timed_step_by_step(wing, tmp_path):
    """Packed and padded: the first step's loss is the reference's, and two steps are left after the warm ones."""
    for how in ("packed", "padded"):
        (row,) = made(small_run(wing, how, tmp_path), worker.answer(small_run(wing, how, tmp_path)))
        assert row["seconds"]["repeats"] == 2 and row["parity"]["worst"] < 1
        data = tuning.conversations(SMALL)
        assert row["tokens"] == data.lengths[6:].sum() / 2 and row["tokens_per_second"] > 0


def test_a_wrong_loss_gets_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_reference", lambda data, config, job: {"loss": np.array(1.0)})
    answer = worker.answer(small_run("torch", "packed", tmp_path))
    assert answer["status"] == "parity_failed"


def test_the_loss_is_measured(tmp_path):
    answers = [job(1, place, vocabulary=90, tokens=20, width=4) | {"cache": str(tmp_path)} for place in (0, 1)]
    found = [row for one in answers for row in made(one, worker.answer(one))]
    assert {row["shape"]["how"] for row in found} == {"all logits", "answers, in chunks"}
    assert all(row["memory"] >= 0 and row["parity"]["worst"] < 1 for row in found)


def test_the_report_compares_with_the_best_peer(tmp_path):
    found = made(small_run("torch", "packed", tmp_path), worker.answer(small_run("torch", "packed", tmp_path)))
    peer = found[0] | {"implementation": "trl", "seconds": found[0]["seconds"] | {"processes": [2 * t for t in found[0]["seconds"]["processes"]]}}
    losses = [row for place in (0, 1) for row in made(job(1, place, vocabulary=90, tokens=20, width=4), worker.answer(job(1, place, vocabulary=90, tokens=20, width=4)))]
    first, second = tuning.sections([found[0], peer, *losses], {})
    assert "TRL" in first and "**2.00**" in first and "all logits" in second
    assert rows.ratio(peer, found[0])[1] == pytest.approx(2.0)
