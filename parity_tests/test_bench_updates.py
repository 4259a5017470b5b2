"""The bench of updates of GRPO and PPO, on small jobs, gate included."""

import numpy as np
import pytest

from bench import gate, plan, rows, updates, worker
from parity_tests.test_bench_kinds import QUICK, made

SMALL = {"vocabulary": 40, "context": 16, "prompts": 2, "group": 3, "prompt": 5, "tokens": 4, "steps": 4}


def job(who, method="GRPO"):
    """A planned job, made small."""
    found = next(one for group in updates.groups(plan.Options(peers=True)) for one in group if one["shape"]["method"] == method)
    return found | QUICK | {"implementation": who, "dtype": "float32", "shape": found["shape"] | SMALL}


@pytest.mark.parametrize("who, method", [("torch", "GRPO"), ("numpy", "GRPO"), ("torch", "PPO")])
def test_updates_are_timed_one_by_one(who, method, tmp_path):
    """Loss and gradients of a given rollout are the reference's; two updates are left after the warm ones."""
    one = job(who, method) | {"cache": str(tmp_path)}
    (row,) = made(one, worker.answer(one))
    assert row["status"] == "ok", row
    assert row["seconds"]["repeats"] == 2 and 0 < row["tokens"] <= 24
    assert method == "PPO" or 0 < row["parity"]["worst"] < 1
    assert row["seconds"]["median"] >= 0.9 * sum(row["figures"].values()) > 0


def test_a_wrong_gradient_gets_no_time(tmp_path, monkeypatch):
    wanted = updates.Ours(job("numpy"), "float64").results()
    wanted["grad.final_norm.weight"] = wanted["grad.final_norm.weight"] * 1.01
    monkeypatch.setattr(gate, "cached", lambda folder, name, make: wanted if name.startswith("update") else make())
    answer = worker.answer(job("torch") | {"cache": str(tmp_path)})
    assert answer["status"] == "parity_failed" and "final_norm" in answer["reason"]


def test_the_given_rollout_has_lessons_and_clipped_tokens():
    """What the gate compares is not trivially zero: groups differ, ratios lie on both sides of the clip."""
    tokens, lengths, shown, old, rewards = updates.rollout(SMALL | {"prompts": 32, "group": 8})
    assert tokens.shape == (256, 9) and (lengths >= 2).all() and (shown.sum(1) == lengths).all()
    assert np.ptp(rewards, axis=1).min() > 0
    ratio = np.exp(-np.log(40) - old)[shown]
    assert (ratio > 1.2).any() and (ratio < 0.8).any() and (np.abs(ratio - 1) < 0.2).any()


def test_the_report_compares_with_the_peer(tmp_path):
    one = job("torch") | {"cache": str(tmp_path)}
    found = made(one, worker.answer(one))
    slower = {"processes": [3 * seconds for seconds in found[0]["seconds"]["processes"]]}
    peer = found[0] | {"implementation": "trl", "seconds": found[0]["seconds"] | slower}
    words, text = updates.sections([found[0], peer], {})
    assert "TRL" in words and "| Torch float32 eager, GRPO |" in text and "**3.00**" in text
    assert rows.ratio(peer, found[0])[1] == pytest.approx(3.0)
