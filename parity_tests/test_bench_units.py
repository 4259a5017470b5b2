"""The bench of part 10: every case passes the gate on both sides at a small size, a wrong one gets no time, its report holds what was measured."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bench import byte_cases, hyperbolic, plan, rows, unit_cases, units, worker
from bench.unit_cases import Side
from numpy_ref.concepts.settings import ExperimentConfig
from numpy_ref.hyperbolic.embedding_arms import SIZES as EMBEDDINGS
from numpy_ref.patching.arms import SIZES as TOKENIZATIONS

STAMP = {"run": "now", "time": "2026-01-01T00:00:00Z", "commit": "none", "dirty": False}
STAMP["environment"] = {"cpu": "a", "threads": 1}
TEXT = "the cat sat on the mat, and the hat sat on the cat. " * 12


def jobs(**more):
    return [job for group in units.groups(plan.Options(**more)) for job in group]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The sizes of the experiments, shrunk."""
    shrunk = ExperimentConfig(batch=2, width=16, autoencoder_width=16, samples=2, held_out=3)
    monkeypatch.setattr(unit_cases, "EXPERIMENT", shrunk)
    monkeypatch.setattr(unit_cases, "QUESTIONS", 3)
    monkeypatch.setattr(unit_cases, "UNIT_TRAINING", replace(unit_cases.UNIT_TRAINING, batch=2))
    monkeypatch.setattr(unit_cases, "CONTEXT_TRAINING", replace(unit_cases.CONTEXT_TRAINING, batch=2))
    monkeypatch.setattr(byte_cases, "SETTINGS", replace(TOKENIZATIONS["tiny"], patch_bytes=5.0))
    monkeypatch.setattr(byte_cases, "TREE", (2, 2))
    monkeypatch.setattr(byte_cases, "EMBEDDINGS", EMBEDDINGS["tiny"])
    monkeypatch.setattr(byte_cases, "text", lambda: TEXT)
    monkeypatch.setattr(hyperbolic, "SHAPE", {"points": 7, "dimensions": 3})
    byte_cases._vocabulary.cache_clear()
    yield
    byte_cases._vocabulary.cache_clear()


def measured(job):
    answer = json.loads(json.dumps(worker.answer(job | {"budget": 0.0})))
    assert answer["status"] == "ok", answer
    found = rows.combine(job, [answer], STAMP)
    for row in found:
        rows.check(row)
    return found


def test_what_is_planned():
    assert {(job["name"], job["implementation"]) for job in jobs()} == {
        (area, who) for area in units.AREAS for who in ("numpy", "torch")
    }
    assert [job["name"] for job in jobs() if job["dtype"] == "bfloat16"] == ["bytes"]
    assert [job["implementation"] for job in jobs(peers=True)][-1] == "hf_tokenizers"
    assert jobs(quick=True) == [] == jobs(device="cuda")


@pytest.mark.parametrize("number", range(len(jobs())), ids=lambda n: "{name} {implementation} {dtype}".format(**jobs()[n]))
def test_every_case_passes_the_gate_and_is_reported(number):
    job = jobs()[number]
    found = measured(job)
    assert [row["mode"] for row in found] == job["modes"] and all(row["tokens"] > 0 for row in found)
    head, *tables = units.sections(found, {})
    assert head.startswith("## Part 10") and len(tables) == len(units.AREAS)
    table = tables[list(units.AREAS).index(job["name"])]
    assert all(f"| {mode} |" in table for mode in job["modes"])


def test_the_picture_and_the_ratios():
    """Of one run both sides stand beside each other; Torch twice as fast is 2.0 times faster."""
    found = []
    for implementation, seconds in (("numpy", 0.02), ("torch", 0.01)):
        job = next(job for job in jobs() if job["name"] == "concepts" and job["implementation"] == implementation)
        timed = {"seconds": {"median": seconds, "fastest": seconds, "repeats": 3}, "tokens": 10}
        answer = {"status": "ok", "modes": dict.fromkeys(job["modes"], timed), "parity": None}
        found += rows.combine(job, [answer] * 3, STAMP)
    _, table, *_ = units.sections(found, {"units.png"})
    assert table.count("| 2.0 [2.0, 2.0] | 1,000 |") == len(units.AREAS["concepts"])
    assert units.PICTURES["units.png"](found).axes and units.PICTURES["units.png"]([]) is None


@pytest.mark.parametrize("area, mode", [(area, next(iter(cases))) for area, cases in units.AREAS.items()])
def test_a_wrong_result_gets_no_time(area, mode, monkeypatch):
    make = units.AREAS[area][mode]

    def wrong(side, name):
        case = make(side, name)

        def results():
            found = case.results()
            key = max(found, key=lambda key: found[key].size)
            return found | {key: found[key] * 1.001 if found[key].dtype.kind == "f" else found[key] + 1}

        return replace(case, results=results) if side.package == "torch_impl" else case

    monkeypatch.setitem(units.AREAS[area], mode, wrong)
    job = next(job for job in jobs() if job["name"] == area and job["implementation"] == "torch") | {"modes": [mode]}
    answer = worker.answer(job | {"budget": 0.0})
    assert answer["status"] == "parity_failed" and mode in answer["reason"]


def test_a_step_moves_the_weights():
    """What is timed is a step that learns: the loss after some calls is another one."""
    case = byte_cases.byte_step("bytes")(Side("torch_impl", "float32"), "byte transformer, step")
    before = case.results()["y.0.loss"]
    for _ in range(3):
        case.call()
    assert case.results()["y.0.loss"] < before


def test_hugging_face_segments_the_same():
    pytest.importorskip("tokenizers")
    job = jobs(peers=True)[-1]
    assert [row["mode"] for row in measured(job)] == list(units.THEIRS)
    for mode in units.THEIRS:
        ours, theirs = (units.AREAS["tokenizers"][mode](side, mode).results() for side in (Side("torch_impl", "int64"), units.PEER))
        assert np.array_equal(ours["ids"], theirs["ids"])
