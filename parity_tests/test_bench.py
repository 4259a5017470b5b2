"""The bench measures what it says: rows, the parity gate, the controls, memory, the arithmetic, the report."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bench import candidates, clock, components, gate, plan, report, rows, sides, work, worker
from bench.runner import Runner

SHAPE = {"preset": "tiny", "batch": 2}


def job(name="layer_norm", implementation="numpy", dtype="float32", **more):
    return {
        "kind": "component",
        "name": name,
        "implementation": implementation,
        "dtype": dtype,
        "compiled": False,
        "allocator": "default",
        "shape": SHAPE,
        "modes": ["forward"],
        "budget": 0.001,
        "least": 1,
    } | more


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick run of the whole bench: (folder of the device, its rows)."""
    out = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench", "--quick", "--threads", "1", "--device", "cpu", "--out", str(out)]
    done = subprocess.run(command, cwd=candidates.__file__.rsplit("/", 2)[0], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = out.iterdir()
    (file,) = folder.glob("*.jsonl")
    return folder, rows.read([file])


def test_rows_of_a_run(quick):
    """Every row holds what the schema asks, the kinds are all there, ours are right, and nothing tells where we are."""
    folder, found = quick
    for entry in found:
        rows.check(entry)
    kinds_ = {"control", "machine", "component", "training", "generation", "inference"}
    assert {entry["kind"] for entry in found} == kinds_
    for entry in found:
        if entry["kind"] in ("component", "training", "generation"):
            assert entry["status"] == "ok" and entry["parity"]["worst"] <= 1
            assert len(entry["seconds"]["processes"]) == 2 and entry["environment"]["threads"] == 1
            assert entry["roofline"]["least_seconds"] > 0 and entry["roofline"]["limit"] in ("compute", "memory")
            assert sys.platform != "linux" or entry["memory"] is None or entry["memory"] >= 0
    assert {e["mode"] for e in found if e["name"] == "layer_norm"} == {"forward", "backward", "both"}
    assert str(folder) not in json.dumps(found) and "/home" not in json.dumps(found)


def test_report_of_a_run(quick):
    """Tables, verdicts and pictures come from the rows alone, and a second writing changes nothing."""
    folder, _ = quick
    text = (folder / "report.md").read_text()
    for expected in (
        "## Training: tiny",
        "## Generation: tiny",
        "## Inference: tiny",
        "| layer_norm |",
        "was refused",
        "GFLOP/s",
        "NumPy against eager",
    ):
        assert expected in text
    pictures = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert set(pictures) == {"training.png", "generation.png", "components.png", "roofline.png", "inference.png"}
    assert all(data.startswith(b"\x89PNG") and f"({name})" in text for name, data in pictures.items())
    report.write(folder)
    assert (folder / "report.md").read_text() == text


def test_controls_of_a_run(quick):
    """A candidate that takes twice as long is reported so; one that is wrong by a thousandth has no time."""
    found = {entry["implementation"]: entry for entry in quick[1] if entry["kind"] == "control"}
    assert 1.5 < rows.slept(found) < 3
    assert found["wrong"]["status"] == "parity_failed" and "seconds" not in found["wrong"]
    assert rows.problems(quick[1]) == []


def test_a_wrong_component_gets_no_time(monkeypatch):
    """Forward wrong, gradient wrong, or of the wrong shape: refused with the output's name. As it is: timed."""
    import numpy_ref.model.norms as norms

    right = norms.layer_norm
    assert worker.answer(job())["status"] == "ok"

    def planted(change):
        def wrong(x, weight, bias=None, eps=1e-5):
            y, vjp = right(x, weight, bias, eps)
            if x.dtype == np.float64:
                return y, vjp  # the reference itself stays right
            return change(y, vjp)

        monkeypatch.setattr(norms, "layer_norm", wrong)
        return worker.answer(job())

    refused = planted(lambda y, vjp: (y * 1.0001, vjp))
    assert (
        refused["status"] == "parity_failed" and refused["parity"]["output"] == "y" and refused["modes"] == ["forward"]
    )
    assert "seconds" not in json.dumps(refused)
    refused = planted(lambda y, vjp: (y, lambda dy: (vjp(dy)[0] * 1.0001, *vjp(dy)[1:])))
    assert refused["status"] == "parity_failed" and refused["parity"]["output"] == "d.x"
    refused = planted(lambda y, vjp: (y, lambda dy: (*vjp(dy)[:2], vjp(dy)[2][None])))
    assert refused["status"] == "parity_failed" and "shape" in refused["reason"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.02])
def test_the_gate_sees_one_element(bad):
    """One bad element among many, in the number format with the widest bound but for bfloat16."""
    good = np.linspace(1.0, 2.0, 10_001)
    wrong = good.copy()
    wrong[-1] = good[-1] * bad
    assert gate.compare({"y": good}, {"y": good}, "float32")["worst"] == 0
    for result in ({"y": wrong}, {"z": good}, {"y": good[:-1]}, {}):
        with pytest.raises(gate.ParityError):
            gate.compare(result, {"y": good}, "float32")
    with pytest.raises(gate.ParityError):
        gate.compare({"y": np.array([1, 2])}, {"y": np.array([1, 3])}, "bfloat16")


@pytest.mark.parametrize("implementation", ["numpy", "torch"])
def test_every_component_passes_the_gate(implementation, tmp_path):
    """The plan names every component of the bench; each runs on both sides, in every format it declares."""
    found = components.cases("tiny", 2)
    planned = {group[0]["name"] for group in plan.groups() if group[0]["kind"] == "component"}
    assert planned == set(found)
    for name, case in found.items():
        for dtype in case.dtypes if implementation == "torch" else case.dtypes[:1]:
            answer = worker.answer(job(name, implementation, dtype, cache=str(tmp_path)))
            assert answer["status"] == "ok", (name, dtype, answer)
            assert set(answer["modes"]) == set(case.modes)
            assert all(mode["bytes"] > 0 and mode["seconds"]["median"] > 0 for mode in answer["modes"].values())


def test_what_is_missing_is_unavailable(monkeypatch):
    """A component that does not exist yet and a peer that is not installed are missing, not wrong."""
    case = replace(components.cases("tiny", 2)["layer_norm"], where="model.norms.layer_norm_of_tomorrow")
    monkeypatch.setattr(components, "cases", lambda *shape: {"layer_norm": case})
    assert worker.answer(job())["status"] == "unavailable"
    monkeypatch.setitem(sys.modules, "transformers", None)
    cell = next(cell for cell in plan.training("tiny", 2, "cpu", True) if cell["implementation"] == "hf")
    answer = worker.answer(cell)
    assert answer["status"] == "unavailable" and "transformers" in answer["reason"] and answer["modes"] == ["step"]


def test_a_process_that_fails_is_an_answer(monkeypatch):
    """A worker that hangs or dies gives a row with the reason, without folder names."""
    runner = Runner(threads=1, rounds=1, say=lambda text: None)
    assert runner.stamp["environment"]["threads"] == 1
    monkeypatch.setenv("BENCH_PYTHON", "/bin/false")
    answer = runner.ask(job())
    assert answer["status"] == "error" and answer["modes"] == ["forward"]
    (bad,) = rows.combine(job(), [answer], runner.stamp | {"time": "now"})
    rows.check(bad)


def test_high_water_mark(tmp_path):
    """VmHWM is read in bytes, set back, and counts what one call touches and frees again."""
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 99 kB\n")
    assert clock.high_water(status) == 1234 * 1024
    assert clock.high_water(tmp_path / "absent") is None
    if clock.reset_high_water():
        np.ones(1 << 20)
        assert 60 << 20 <= clock.peak_memory(lambda: np.ones(8 << 20).sum()) <= 80 << 20
        assert clock.peak_memory(lambda: None) < 4 << 20  # the mark is set back: the large array before is forgotten


def test_clock_counts_repeats_and_orders_candidates(monkeypatch):
    """On a clock that only the calls move: each takes as long as it takes; least, most and budget are kept."""
    now = [0]
    monkeypatch.setattr(clock.time, "perf_counter_ns", lambda: now[0])

    def taking(milliseconds):
        return lambda: now.__setitem__(0, now[0] + milliseconds * 1_000_000)

    assert clock.timed(taking(1), budget=0.0, least=5) == [0.001] * 5
    assert clock.timed(taking(10), budget=0.095, least=5) == [0.01] * 10
    assert len(clock.timed(taking(1), budget=10.0, most=7)) == 7


def test_flops_are_those_of_the_reference():
    """Matrix products counted while the reference runs: all of them, with attention's full square, not its half."""
    counted = {"flops": 0}

    class Counting(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
            inputs = [np.asarray(x) if isinstance(x, Counting) else x for x in inputs]
            if ufunc is np.matmul:
                counted["flops"] += 2 * np.matmul(*inputs).size * inputs[0].shape[-1]
            result = getattr(ufunc, method)(*inputs, **kwargs)
            return result.view(Counting) if isinstance(result, np.ndarray) else result

    def count(name):
        side = sides.NumpySide(components.cases("tiny", 2)[name], name, "float64")
        side.arguments = sides._map(
            side.arguments, lambda array: array.view(Counting) if array.dtype.kind == "f" else array
        )
        counted["flops"] = 0
        side.forward()
        return counted["flops"]

    config, found = candidates.model_config({"shape": {"preset": "tiny", "context": 32}}), components.cases("tiny", 2)
    rows_, length = 2 * config.context, config.context
    for name in ("linear", "feed_forward"):
        assert count(name) == found[name].flops
    square = 4 * rows_ * config.width * length  # the half is T (T + 1) / 2 pairs: (T + 1) / 2T of the square
    for name, layers in (
        ("scaled_dot_product_attention", 1),
        ("multi_head_attention", 1),
        ("block", 1),
        ("transformer", config.layers),
    ):
        half = layers * square * (length + 1) / (2 * length)
        assert count(name) - layers * square == pytest.approx(found[name].flops - half), name


def test_plan_lets_candidates_take_turns():
    """Peers share a group with ours on the same batch, context and formats, and only where they are asked for."""
    plain = [group for group in plan.groups() if group[0]["kind"] == "training"]
    peers = [group for group in plan.groups(plan.Options(peers=True)) if group[0]["kind"] == "training"]
    names = ["showcase", "small", "llama-1m", "llama-10m"]
    assert [group[0]["name"] for group in plain] == [group[0]["name"] for group in peers] == names
    for group in peers[2:]:
        assert {cell["implementation"] for cell in group} >= {"torch", *plan.PEERS}
        assert len({json.dumps(cell["shape"]) for cell in group}) == 1
    for without, group in zip(plain[:2], peers):
        assert {cell["implementation"] for cell in without} == {"numpy", "torch"}
        assert {cell["implementation"] for cell in group} == {"numpy", "torch", *plan.PEERS}
        assert len({json.dumps(cell["shape"]) for cell in group}) == 1
        for peer in ("torch", *plan.PEERS):
            kinds = {(cell["dtype"], cell["compiled"]) for cell in group if cell["implementation"] == peer}
            assert kinds == {(dtype, compiled) for dtype in work.FLOATS for compiled in (False, True)}
