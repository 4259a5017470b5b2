"""The bench of hyperbolic space: every call passes the gate on small shapes, and its report holds what was measured."""

import json

import numpy as np
import pytest

from bench import hyperbolic, plan, rows, worker

STAMP = {"run": "now", "time": "2026-01-01T00:00:00Z", "commit": "none", "dirty": False}
STAMP["environment"] = {"cpu": "a", "threads": 1}
SMALL = {"budget": 0.0, "shape": {"points": 12, "dimensions": 3}}


def jobs(**more):
    return hyperbolic.groups(plan.Options(**more))


def measured(job):
    answer = json.loads(json.dumps(worker.answer(job | SMALL)))
    assert answer["status"] == "ok", answer
    found = rows.combine(job, [answer], STAMP)
    for row in found:
        rows.check(row)
    return found


def test_what_is_planned():
    assert [job["implementation"] for job in jobs()[0]] == ["torch"] * 4
    assert [job["implementation"] for job in jobs(peers=True)[0]] == ["torch", "geoopt"] * 2 + ["torch"] * 2
    assert [job["compiled"] for job in jobs()[0]] == [False, False, True, True]
    assert jobs(quick=True) == [] == jobs(device="cuda")


@pytest.mark.parametrize("number", [0, 1])
def test_ours_and_its_report(number):
    job = jobs()[0][number]
    found = measured(job)
    assert [row["mode"] for row in found] == job["modes"] and len(found) == 22
    figures = found[0]["figures"]
    least = {"float32": 1e-6, "float64": 1e-14}[job["dtype"]]
    assert figures["error"] < least and figures["far"] < 10 * least and figures["close"] < least and figures["equal"] == 0
    times, errors = hyperbolic.sections(found, {})
    assert f"| lorentz distance forward | {job['dtype']} |" in times and f"| points 1e-4 from the origin | {job['dtype']} |" in errors


@pytest.mark.nightly
def test_ours_compiled():
    """Compiling takes several seconds."""
    found = measured(jobs()[0][2])
    assert [row["mode"] for row in found] == ["lorentz.distance forward", "lorentz.distance both"]
    assert found[0]["figures"]["error"] < 1e-6
    assert "| lorentz distance both, compiled | float32 |" in next(hyperbolic.sections(found, {}))


def test_geoopt_does_the_same():
    pytest.importorskip("geoopt")
    found = measured(jobs(peers=True)[0][3])
    assert len(found) == 22 and found[0]["parity"]["worst"] < 1


def test_a_wrong_map_prints_no_time(monkeypatch):
    """A distance a thousandth too long is refused."""
    ours = hyperbolic._ours
    monkeypatch.setattr(hyperbolic, "_ours", lambda name: lambda *points: 1.001 * ours(name)(*points))
    answer = worker.answer(jobs()[0][0] | SMALL)
    assert answer["status"] == "parity_failed" and "lorentz.distance" in answer["reason"]


def test_points_are_what_they_are_called():
    known = hyperbolic._points({"points": 50, "dimensions": 4})
    time, space = known["x"][:, 0], known["x"][:, 1:]
    np.testing.assert_allclose(time**2 - (space**2).sum(-1), 1)
    np.testing.assert_allclose(time * known["u"][:, 0], (space * known["u"][:, 1:]).sum(-1))
    assert ((known["p"] ** 2).sum(-1) < 1).all()
