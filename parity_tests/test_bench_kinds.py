"""The bench's kinds of the modern engine: each measures what it says on a small job, and refuses what is wrong."""

import dataclasses
import json

import numpy as np
import pytest

from bench import inference, kinds, moe, plan, preferences, quality, report, rows, speculation, windows, worker
from bench.machine import measure as limits
from numpy_ref.config import parameter_count
from numpy_ref.presets import preset

STAMP = {"run": "now", "time": "2026-01-01T00:00:00Z", "commit": "none", "dirty": False}
STAMP["environment"] = {"cpu": "a", "threads": 1}
QUICK = {"budget": 0.001, "device": "cpu", "compiled": False, "allocator": "default"}


def first(module, **more):
    """The first job of a module on a CPU, made small."""
    job = module.groups(plan.Options())[0][0]
    return job | QUICK | {"shape": job["shape"] | more}


def made(job, answer):
    assert answer["status"] == "ok", answer
    found = rows.combine(job, [json.loads(json.dumps(answer))], STAMP)
    for row in found:
        rows.check(row)
    return found


def tiny_llama(dtype, implementation="torch", tokens=4):
    shape = {"preset": "llama-1m", "context": 32, "tokens": tokens}
    modes = ["decode 1", "decode 32", "prefill"]
    return QUICK | {
        "kind": "inference", "name": "llama-1m", "implementation": implementation, "dtype": dtype, "shape": shape,
        "modes": modes,
    }  # fmt: skip


def test_every_kind_has_groups():
    """On a CPU every kind but the kernels of CUDA is planned; on CUDA those, 7B decoding and training at 124M too."""
    planned = {group[0]["kind"] for group in plan.groups()}
    assert planned >= set(kinds.KINDS) - {"attention"} and "attention" not in planned
    on_cuda = plan.groups(plan.Options(device="cuda"))
    names = {(group[0]["kind"], group[0]["name"]) for group in on_cuda}
    assert {("attention", "attention 8192"), ("inference", "llama-7b"), ("training", "llama-124m")} <= names
    chosen = plan.groups(plan.Options(only=("inference/llama-10m",)))
    assert [group[0]["name"] for group in chosen] == ["control", "matmul", "llama-10m"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_inference(dtype, tmp_path):
    """Every format passes the gate, and its work counts the bytes of its weights."""
    job = tiny_llama(dtype) | {"cache": str(tmp_path)}
    found = {row["mode"]: row for row in made(job, worker.answer(job))}
    assert set(found) == set(job["modes"]) and found["decode 32"]["tokens"] == 32 * 4
    assert found["prefill"]["tokens"] == 32 and all(row["memory"] >= 0 for row in found.values())
    weights = parameter_count(inference.model_config(job)) - 256 * 128  # a step reads one row of the embedding
    step = found["decode 1"]["figures"]["step_bytes"] / weights
    low, high = {"float32": (4.0, 4.1), "bfloat16": (2.0, 2.1), "int8": (1.0, 1.1), "int4": (0.7, 0.8)}[dtype]
    assert low <= step <= high


def test_a_wrong_text_gets_no_time(monkeypatch, tmp_path):
    """One token off in one row of the batch: refused."""
    right = inference.Ours.text

    def wrong(self, rows):
        texts = [np.asarray(text).copy() for text in right(self, rows)]
        texts[-1][-1] ^= 1
        return texts

    monkeypatch.setattr(inference.Ours, "text", wrong)
    answer = worker.answer(tiny_llama("float32") | {"cache": str(tmp_path)})
    assert answer["status"] == "parity_failed" and answer["parity"]["output"] == "tokens 1" and "seconds" not in answer


def test_windows():
    """Pairs are counted one by one; the smallest job runs and passes the gate."""
    job = first(windows, window=5) | {"modes": ["forward 64", "both 64"]}
    assert {row["mode"] for row in made(job, worker.answer(job))} == {"forward 64", "both 64"}
    pairs = sum(min(q + 1, 5) for q in range(64))
    assert windows.work(job, 64, "forward")[0] == 4 * windows.HEADS * windows.FEATURES * pairs


def test_quality_and_speculation(tmp_path):
    """A model trained for a few steps: coarser weights lose something, and speculation gives the plain texts."""
    more = {"cache": str(tmp_path), "repeats": 1}
    job = first(quality, tokens=512, steps=3) | more
    values = {row["mode"]: row["value"] for row in made(job, worker.answer(job))}
    assert values["float32"] == pytest.approx(values["int8"], abs=0.05) and values["float32"] != values["int8"]
    numpy_job = job | {"implementation": "numpy", "modes": ["float32", "int8"]}
    for row in made(numpy_job, worker.answer(numpy_job)):
        assert row["value"] == pytest.approx(values[row["mode"]], abs=1e-4)
    job = first(speculation, steps=3, tokens=6, texts=1, prompt=8) | more
    found = {row["mode"]: row for row in made(job, worker.answer(job))}
    assert found["draft"]["figures"]["proposed"] > 0 and found["plain"]["figures"]["proposed"] == 0


@pytest.mark.parametrize("backend", ["torch", "math", "flash", "cudnn"])
def test_attention_backends(backend):
    """What runs on CUDA runs here in small where PyTorch has the kernel; where not, the row says so."""
    job = QUICK | {
        "kind": "attention", "name": "attention 64", "implementation": backend, "dtype": "float32",
        "shape": {"batch": 1, "heads": 2, "features": 16, "length": 64}, "modes": ["forward", "both"],
    }  # fmt: skip
    answer = worker.answer(job)
    if backend == "cudnn":
        assert answer["status"] == "error" and answer["modes"] == ["forward", "both"]
    else:
        made(job, answer)


def test_sections(tmp_path):
    """Tables, verdicts and pictures of synthetic rows of every kind."""
    found = []
    for module in kinds.modules():
        for group in module.groups(plan.Options(device="cuda", peers=True)):
            for job in group:
                parts = {
                    mode: {
                        "seconds": {"median": 1.0 + number, "fastest": 1.0, "repeats": 3}, "value": 2.0,
                        "memory": 1 << 20,
                        "tokens": 64 * int((mode.split() + ["1"])[1]) if mode.startswith("decode") else 512,
                        "flops": 1e9, "bytes": 1 << 30,
                        "figures": {"step_bytes": 1 << 20, "proposed": 10, "accepted": 5, "steps": 7, "pairs": 32}
                        | {"generation": 0.5, "scoring": 0.0, "update": 0.5},
                    }
                    for number, mode in enumerate(job["modes"])
                }  # fmt: skip
                notes = {"parameters": 10, "steps": 3, "width": 4, "draft parameters": 2}
                answer = {"status": "ok", "modes": parts, "parity": {"worst": 0.1}, "notes": notes}
                found += rows.combine(job, [answer], STAMP)
    environment = {"gpu": "none", "cuda": "1", "driver": "1", "cpu": "a", "threads": 1, "cores": 1, "memory_gib": 1}
    environment |= {"system": "s", "python": "p", "numpy": "n", "blas": "b", "torch": "t"}
    rows.append(tmp_path / "2026-01-01-none.jsonl", [row | {"environment": environment} for row in found])
    text = report.write(tmp_path).read_text()
    for words in (
        "## Inference: llama-10m", "batch 32: 64 tokens", "## Sliding windows", "16,384", "## Quality of quantised",
        "groups of 128", "## Speculative decoding", "50%", "## Fused attention", "Best against the best peer",
        "![windows](windows.png)", "![inference](inference.png)", "## Reward models: llama-1m", "as many pairs a second as TRL",
        "## A layer of experts", "![experts](moe.png)", "Mixtral's of dense",
    ):  # fmt: skip
        assert words in text, words


def test_limits_read(monkeypatch):
    """The machine's reading rate is measured beside its copies."""
    monkeypatch.setattr("bench.machine.COPIES", (1 << 18,))
    for name in ("copy", "read"):
        found = limits({"name": name, "device": "cpu", "budget": 0.001})
        assert found[str(1 << 18)]["value"] > 0


def test_options_are_the_command_lines():
    """Every option of the plan is one of the command line."""
    from bench.__main__ import arguments

    given = vars(arguments(["--quick"]))
    assert {field.name for field in dataclasses.fields(plan.Options)} <= set(given)
    assert preset("llama-7b")[0].layers == 32


def test_reward_models(tmp_path):
    """A step on two pairs passes the gate in both wings; batches are the same for everybody, and of many lengths."""
    jobs = preferences.groups(plan.Options())[0]
    for job in (job for job in jobs if job["dtype"] == "float32"):
        small = job | QUICK | {"cache": str(tmp_path), "shape": job["shape"] | {"pairs": 2, "context": 128}}
        [row] = made(small, worker.answer(small))
        assert row["figures"]["pairs"] == 2 and row["tokens"] > 0 and row["mode"] == "step"
    peers = {job["implementation"] for job in preferences.groups(plan.Options(peers=True))[0]}
    assert peers == {"numpy", "torch", "trl"}
    texts = [text for batch in preferences.pairs(jobs[0]) for one in batch for text in one.texts]
    assert all(24 <= len(text) <= 128 for text in texts) and len({len(text) for text in texts}) > 40


@pytest.mark.parametrize("dtype", moe.FORMATS)
def test_a_layer_of_experts(dtype, tmp_path):
    """Ours, the loop and the dense layer pass the gate, and count the operations that a token meets; so does Mixtral."""
    jobs = moe.groups(plan.Options(peers=True))[moe.FORMATS.index(dtype)]
    assert [job["implementation"] for job in jobs] == list(moe.WHO)
    shape = {"width": 32, "hidden": 16}
    for job in jobs:
        small = job | QUICK | {"cache": str(tmp_path), "shape": shape, "modes": ["5 2 48"]}
        answer = worker.answer(small)
        if answer["status"] == "unavailable" and job["implementation"].startswith("hf"):
            continue
        [row] = made(small, answer)
        assert row["tokens"] == 48 and row["flops"] == 18 * 48 * 2 * 32 * 16
    wide = moe.inputs(shape | {"experts": 5, "tokens": 48})
    logits = np.sort(wide["x"] @ wide["router.weight"].T, -1)
    assert (np.diff(logits) > 0.9).all()  # nobody's rounding changes a choice


def test_a_wrong_layer_of_experts_gets_no_time(monkeypatch, tmp_path):
    """Weights that are raw logits: refused."""
    job = moe.groups(plan.Options())[0][0] | QUICK | {"cache": str(tmp_path), "modes": ["5 2 48"]}
    job |= {"shape": {"width": 32, "hidden": 16}}
    monkeypatch.setattr("torch_impl.model.moe.gate_weights", lambda logits, indices, *_: logits.gather(-1, indices))
    answer = worker.answer(job)
    assert answer["status"] == "parity_failed" and "modes" in answer
