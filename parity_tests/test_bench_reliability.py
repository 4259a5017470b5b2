"""The reliability rows of the bench: kills and damaged files, counted; what is lost is no row but a problem."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import plan, reliability, rows, worker
from parity_tests import kill

STAMP = {"run": "r", "time": "t", "commit": "c", "dirty": False, "environment": {}}


def answered(job):
    answer = worker.answer(job | {"allocator": "default"})
    found = rows.combine(job, [json.loads(json.dumps(answer))], STAMP)
    for row in found:
        rows.check(row)
    return found


def told(monkeypatch, status, *lines):
    """pytest, as if it had ended with this status and these tests had counted."""

    def run(command, cwd, env, stdout):
        Path(env["PARITY_RESULTS"]).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(reliability.subprocess, "run", run)


def test_rows_and_report(monkeypatch):
    """Counts of one kind of file add up over the tests; the report shows them beside the kills."""
    tally = kill.Tally({"kills": 5, "kills in a save": 2, "resumes": 4, "runs that end bit-identical": 1})
    monkeypatch.setattr(kill, "torture", lambda times, seed, out, say: tally)
    bombs = {"fuzz": "bombs", "read": 1, "refused": 1000, "memory": 1 << 20}
    told(monkeypatch, 0, bombs, {"column": "float64"}, bombs | {"memory": 2 << 20}, {"fuzz": "configs", "read": 3, "refused": 4})
    (kills,), (fuzz,) = reliability.groups(plan.Options(), kills=5)
    (text,) = reliability.sections(answered(kills) + answered(fuzz), [])
    assert "| kills in a save | 2 |" in text and "| mismatches | 0 |" in text
    assert "| bombs | 2,002 | 2 | 2,000 | 2.0 MiB |" in text and "| configs | 7 | 3 | 4 |  |" in text and "2,009" in text
    assert reliability.sections([], []) == []


@pytest.mark.parametrize("lost", kill.WRONG)
def test_what_is_lost_is_a_problem(monkeypatch, lost):
    monkeypatch.setattr(kill, "torture", lambda times, seed, out, say: kill.Tally({"kills": 5, lost: 1}))
    (job,) = reliability.groups(plan.Options())[0]
    (row,) = answered(job)
    assert row["status"] == "parity_failed" and lost in row["reason"]


@pytest.mark.parametrize("status, lines", [(1, [{"fuzz": "a", "read": 1, "refused": 2}]), (0, [])])
def test_a_fuzz_that_fails_or_counts_nothing_is_a_problem(monkeypatch, status, lines):
    told(monkeypatch, status, *lines)
    (job,) = reliability.groups(plan.Options())[1]
    assert answered(job)[0]["status"] == "parity_failed"
