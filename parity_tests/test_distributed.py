"""Several processes train as one does: the same losses, norms and weights, saved on any number and resumed on another.

It goes through ``step.loss_share``, ``step.routed_tokens`` and ``muon.orthogonalise_`` as the single process does.
Real processes that talk by gloo. Each launch plays many short runs (many_processes.py), because starting costs most.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from numpy_ref import checkpoint_file, log
from numpy_ref.__main__ import main as numpy_main
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError
from parity_tests import many_processes
from parity_tests.children import PATIENCE, ended, started, wait_for
from parity_tests.test_loop import assert_same
from torch_impl.__main__ import main as torch_main
from torch_impl.training import checkpoint
from torch_impl.training.parallel import check

MODEL = ModelConfig(vocab_size=32, context=12, layers=2, width=20, heads=2, feed_forward=36, dropout=0.1)
OTHER = dataclasses.replace(
    MODEL, norm_position="post", tie_embeddings=True, positions="learned", kv_heads=1, activation="swiglu", width=12
)
ADAMW = TrainConfig(
    steps=6, batch=8, accumulate=2, lr=1e-2, warmup=2, clip=0.05, eval_every=3, eval_tokens=150, save_every=3,
    dtype="float64", device="cpu", pack_documents=True, z_loss=1e-3, label_smoothing=0.1,
)  # fmt: skip
MUON = dataclasses.replace(ADAMW, optimizer="muon", lr=2e-2, ema=0.9, recompute=True)
EXPERTS = dataclasses.replace(
    MODEL, experts=4, dense_layers=1, shared_experts=1, router_bias=True, noisy_router=True, expert_width=12
)
ROUTED = dataclasses.replace(  # what asks for balance in a micro-batch knows of micro-batches, and so of processes
    MUON, balance_loss=0.0, sequence_balance_loss=0.1, router_z_loss=0.01, capacity_factor=0.8, ema=0.0
)
RUNS = {"adamw": (MODEL, ADAMW), "muon": (OTHER, MUON), "experts": (EXPERTS, ROUTED)}


def case(name, kind, **more):
    """A run as many_processes.py takes it. ``kind``: of RUNS; settings, "resume", "stop_after" and "bug" on top."""
    model, settings = RUNS[kind]
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    settings = dataclasses.replace(settings, **{key: value for key, value in more.items() if key in known})
    rest = {key: value for key, value in more.items() if key not in known}
    return {"name": name, "model": dataclasses.asdict(model), "train": dataclasses.asdict(settings), **rest}


def play(folder, world, cases):
    """Play the cases on ``world`` processes; in this one for 0."""
    if world == 0:
        for one in cases:
            many_processes.play(folder, one)
        return
    (folder / "cases.json").write_text(json.dumps(cases))
    with started(world, "parity_tests.many_processes", folder) as children:
        results = ended(children)
        assert all(status == 0 for status, _ in results), "\n".join(said[-3000:] for _, said in results)


def distance(one, other):
    """The largest difference of two run folders: any number of the logs, or any weight at the end."""
    ours, theirs = (log.read_rows(folder / log.NAME) for folder in (one, other))
    numbers = ("step", "tokens", "loss", "lr", "grad_norm", "val_loss")
    assert len(ours) == len(theirs) == 6 and [set(row) for row in ours] == [set(row) for row in theirs]
    rows = [abs(a[key] - b[key]) for a, b in zip(ours, theirs) for key in numbers if key in a]
    weights = [checkpoint.load(folder).params for folder in (one, other)]
    return max(*rows, *((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]))


PLANTED = [  # bug, the run that it is planted in
    ("mean of means", "adamw", "ddp"),
    ("loss of one process", "adamw", "ddp"),
    ("same data everywhere", "adamw", "ddp"),
    ("same dropout everywhere", "adamw", "ddp"),
    ("gradients averaged (ddp)", "adamw", "ddp"),
    ("gradients averaged (fsdp)", "adamw", "fsdp"),
    ("clipped by the norm of a share", "adamw", "fsdp"),
    ("shares made orthogonal", "muon", "fsdp"),
    ("moments forgotten", "adamw", "fsdp"),
    ("loads of one process", "experts", "ddp"),
    ("experts averaged", "experts", "experts"),
    ("experts of the first process", "experts", "experts"),
    ("gradients stay where the tokens went", "experts", "experts"),
]
KINDS = [(kind, way) for kind in RUNS for way in ("ddp", "fsdp")] + [("experts", "experts")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of a single process, whole and up to the third step."""
    folder = tmp_path_factory.mktemp("alone")
    play(folder, 0, [case(kind, kind) for kind in RUNS])
    play(folder, 0, [case(f"{kind} half", kind, stop_after=3) for kind in RUNS])
    play(folder, 0, [case("weighted", "adamw", weighted=True)])
    return folder


@pytest.fixture(scope="module")
def two(alone, tmp_path_factory):
    """Everything that two processes play, in one launch."""
    folder = tmp_path_factory.mktemp("two")
    cases = [case(f"{kind} {way}", kind, parallel=way) for kind, way in KINDS]
    cases += [case(f"{kind} {way} half", kind, parallel=way, stop_after=3) for kind, way in KINDS]
    cases += [case(f"weighted {way}", "adamw", parallel=way, weighted=True) for way in ("ddp", "fsdp")]
    cases.append(case("sharded ddp half", "adamw", parallel="ddp", sharded=True, stop_after=3))
    for bug, kind, way in PLANTED:
        if bug == "moments forgotten":
            cases.append(case(bug, kind, parallel=way, stop_after=3))
        cases.append(case(bug, kind, parallel=way, bug=bug, resume=bug == "moments forgotten"))
    for kind, way in KINDS:  # what one process has saved
        name = f"{kind} {way} from one"
        (folder / name).mkdir()
        for file in (log.NAME, checkpoint_file.NAME):
            (folder / name / file).write_bytes((alone / f"{kind} half" / file).read_bytes())
        cases.append(case(name, kind, parallel=way, resume=True))
    play(folder, 2, cases)
    return folder


@pytest.mark.parametrize("kind, way", KINDS)
def test_two_processes_train_as_one(alone, two, kind, way):
    assert distance(alone / kind, two / f"{kind} {way}") < 1e-9
    state, other = (checkpoint.load(folder) for folder in (alone / kind, two / f"{kind} {way}"))
    assert_same(state, other, 1e-9)
    assert not state.states.get("ema") or assert_averages(state, other)
    rows = log.read_rows(alone / kind / log.NAME)
    assert all(row["grad_norm"] > RUNS[kind][1].clip for row in rows), "clipping never acted"


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_weights_of_tokens_are_summed_over_the_processes(alone, two, way):
    """``step.loss_denominator``: what the tokens of all rows weigh, whoever has them."""
    assert distance(alone / "weighted", two / f"weighted {way}") < 1e-9 < 1e-3 < distance(alone / "weighted", alone / "adamw")


def assert_averages(one, other):
    for name, value in one.states["ema"].items():
        assert (value - other.states["ema"][name]).abs().max() < 1e-9, name
    return True


@pytest.mark.parametrize("kind, way", KINDS)
def test_saved_by_two_resumed_by_one(alone, two, kind, way):
    name = f"{kind} {way} half"
    play(two, 0, [case(name, kind, resume=True)])
    assert distance(alone / kind, two / name) < 1e-9


def test_copies_saved_in_shards_resume_on_one(alone, two):
    assert [step for step, _ in checkpoint_file.shard_files.history(two / "sharded ddp half")] == [3]
    play(two, 0, [case("sharded ddp half", "adamw", resume=True)])
    assert distance(alone / "adamw", two / "sharded ddp half") < 1e-9


@pytest.mark.parametrize("kind, way", KINDS)
def test_saved_by_one_resumed_by_two(alone, two, kind, way):
    assert distance(alone / kind, two / f"{kind} {way} from one") < 1e-9


@pytest.mark.parametrize("bug, kind, way", PLANTED)
def test_planted_bugs_are_noticed(alone, two, bug, kind, way):
    assert distance(alone / kind, two / bug) > 1e-6


def test_both_wings_read_shards(two):
    """One folder of shards, put together by NumPy and by Torch: the same numbers."""
    from numpy_ref.training import checkpoint as numpy_checkpoint

    ours, theirs = numpy_checkpoint.load(two / "adamw fsdp"), checkpoint.load(two / "adamw fsdp")
    assert ours.step == theirs.step == 6 and ours.train_config.parallel == "fsdp"
    for name, value in ours.params.items():
        assert np.array_equal(value, theirs.params[name].numpy())


@pytest.mark.nightly
def test_four_processes_train_as_one_and_any_number_goes_on(alone, tmp_path):
    """Four; then saved by four, resumed by two, and then by one; and saved by one, resumed by four."""
    cases = [case(f"{kind} {way}", kind, parallel=way, accumulate=1) for kind, way in KINDS]
    cases += [case(f"{kind} {way} part", kind, parallel=way, accumulate=2, stop_after=2) for kind, way in KINDS]
    play(tmp_path, 4, cases)
    for world, last in ((2, 4), (4, 5)):
        more = {"resume": True, "stop_after": last}
        play(tmp_path, world, [case(f"{kind} {way} part", kind, parallel=way, **more) for kind, way in KINDS])
    play(tmp_path, 0, [case(f"{kind} {way} part", kind, resume=True) for kind, way in KINDS])
    for kind, way in KINDS:
        assert distance(alone / kind, tmp_path / f"{kind} {way}") < 1e-9
        assert distance(alone / kind, tmp_path / f"{kind} {way} part") < 1e-9


TRAIN = (
    "train --data samples --layers 1 --width 8 --heads 1 --feed-forward 8 --context 8 --batch 4 --device cpu --warmup 0"
).split()


@pytest.mark.parametrize("way", ["fsdp", pytest.param("ddp", marks=pytest.mark.nightly)])
def test_a_signal_to_one_process_stops_and_saves_all(tmp_path, way):
    command = ["torch_impl", *TRAIN, "--steps", 10**6, "--out", tmp_path, "--parallel", way, "--eval-every", 0]
    with started(2, *command) as children:
        wait_for(lambda: len(log.read_rows(tmp_path / log.NAME)) > 3, *children)
        children[1].send_signal(signal.SIGTERM)
        (first, said), (second, whisper) = ended(children)
    assert (first, second) == (143, 143), said + whisper
    assert "stopped after step" in said and "stopped" not in whisper
    step = checkpoint.load(tmp_path).step
    assert step == log.read_rows(tmp_path / log.NAME)[-1]["step"] and f"step {step} " in said


@pytest.mark.nightly
@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_end_when_one_is_killed(tmp_path, lost):
    command = ["torch_impl", *TRAIN, "--steps", 10**6, "--out", tmp_path]
    with started(2, *command) as children:
        wait_for(lambda: len(log.read_rows(tmp_path / log.NAME)) > 3, *children)
        children[lost].kill()
        status, said = ended(children)[1 - lost]
    assert status == 2 and said.count("error:") == 1 and "Traceback" not in said
    assert f"process {1 - lost} of 2 lost the others" in said


def test_torchrun_says_what_is_wrong_once(tmp_path):
    """By the command that people type. torchrun's own report follows; ours is one line of one process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "torch_impl", *TRAIN, "--batch", "3", "--out", str(tmp_path)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=PATIENCE, **streams)
    assert done.returncode != 0
    errors = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "batch=3 can't be shared by 2 processes; take a multiple of 2" in errors[0], done.stdout


def test_batches_that_do_not_divide_are_refused():
    cpu = torch.device("cpu")
    check(SimpleNamespace(world=2), MODEL, ADAMW, cpu)
    with pytest.raises(UserError, match="batch=8 .* by 4 processes with accumulate=4; take a multiple of 16"):
        check(SimpleNamespace(world=4), MODEL, dataclasses.replace(ADAMW, accumulate=4), cpu)
    with pytest.raises(UserError, match="can't train on mps"):
        check(SimpleNamespace(world=2), MODEL, ADAMW, torch.device("mps"))


def test_experts_that_do_not_divide_are_refused():
    cpu, spread = torch.device("cpu"), dataclasses.replace(ADAMW, parallel="experts", batch=24)
    check(SimpleNamespace(world=4), EXPERTS, spread, cpu)
    with pytest.raises(UserError, match="4 experts can't be shared by 3 processes"):
        check(SimpleNamespace(world=3), EXPERTS, spread, cpu)
    with pytest.raises(UserError, match="--parallel experts spreads experts, and this model has none"):
        check(SimpleNamespace(world=2), MODEL, spread, cpu)


def test_misuse_is_one_line(tmp_path, monkeypatch, capsys):
    assert torch_main([*TRAIN, "--out", str(tmp_path), "--parallel", "pipeline"]) == 2
    assert "'pipeline'" in capsys.readouterr().err
    with pytest.raises(UserError, match="parallel='tensor'.*auto, ddp, fsdp, experts"):
        TrainConfig(parallel="tensor")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert numpy_main([*TRAIN, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("trains in one process and 2 were started") == 1
    monkeypatch.setenv("RANK", "2")
    assert torch_main([*TRAIN, "--out", str(tmp_path)]) == 2
    assert "name no process" in capsys.readouterr().err
