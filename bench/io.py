"""What surrounds the training step: reading batches from memory-mapped tokens, saving and loading checkpoints.

Three kinds of figures: tokens/s of the loader beside tokens/s of training, in one process; the seconds for which a save
holds training up (the copy); and bytes/s of a save down to the disk (fsync included) and of a load with its checksum.
"""

import importlib
import itertools
import tempfile
from pathlib import Path

import numpy as np

from bench import candidates, clock, gate
from bench.report_parts import label, select, table
from numpy_ref.presets import preset

TOKENS = 1 << 25  # of the file that batches are read from: more than any cache holds
ENOUGH = 20  # times the tokens/s of training that loading has to reach
DATA_MODES, CHECKPOINT_MODES = ("load", "step"), ("copy", "save", "load")


def groups(options):
    """Data and checkpoints of the showcase."""
    if options.quick:
        return []
    return [jobs("showcase", options.batch, preset("showcase")[0].context, options.device)]


def jobs(name, batch, context, device):
    """The jobs of one model: data and checkpoints, in both wings."""
    shape = {"preset": name, "batch": batch, "context": context}
    sides = [("numpy", "float32", "cpu"), ("torch", "float32", device)] + [("torch", "bfloat16", device)]
    base = {"kind": "io", "compiled": False, "allocator": "tuned", "shape": shape}

    def job(what, side, modes):
        implementation, dtype, where = side
        more = {"name": what, "implementation": implementation, "dtype": dtype, "device": where, "modes": list(modes)}
        return base | more

    data = [job("data", side, DATA_MODES) for side in sides]
    return data + [job("checkpoint", side, CHECKPOINT_MODES) for side in sides[:2]]


def measure(job):
    """The answer to a job of kind "io"."""
    with tempfile.TemporaryDirectory() as folder:
        return {"data": data, "checkpoint": checkpoint}[job["name"]](job, Path(folder))


def data(job, folder):
    """Batches from a memory map, and a training step on as many tokens."""
    tokens = np.memmap(folder / "tokens.bin", np.uint8, "w+", shape=(TOKENS,))
    tokens[:] = np.random.default_rng(0).integers(0, 256, TOKENS, np.uint8)
    shape, wing = job["shape"], candidates.package(job)
    batch = importlib.import_module(f"{wing}.data.batches").batch
    arguments = shape["batch"], shape["context"], 0
    reference = importlib.import_module("numpy_ref.data.batches").batch(tokens, 12345, *arguments)
    found = batch(tokens, 12345, *arguments)
    parity = gate.compare(*({"y": np.asarray(pair[1], np.float64)} for pair in (found, reference)), "float64")
    positions = itertools.count(0, shape["batch"])
    step = candidates.Training(job)
    count = shape["batch"] * shape["context"]

    def timed(call):
        seconds = clock.timed(call, job["device"], job.get("budget", 2.0), job.get("least", 5))
        return {"tokens": count, "bytes": count, "memory": None, "seconds": clock.summary(seconds)}

    modes = {"load": timed(lambda: batch(tokens, next(positions), *arguments)), "step": timed(step.call)}
    return {"modes": modes, "parity": parity}


def checkpoint(job, folder):
    """A checkpoint of the model with AdamW's state: copied, saved, loaded."""
    from numpy_ref import checkpoint_file, saving

    wing = importlib.import_module(f"{candidates.package(job)}.training.checkpoint")
    trained = candidates.Training(job)
    trained.call()
    run = checkpoint_file.Run(trained.config, trained.train, trained.params, trained.states, step=1)
    arrays, header = wing.snapshot(run)
    size = sum(value.nbytes for value in arrays.values())
    saving.write(folder, arrays, header, keep=3)
    back = wing.snapshot(wing.load(folder, device=job["device"]))[0]
    parity = gate.compare(back, arrays, "float64")
    steps = itertools.count(2)
    calls = {
        "copy": lambda: wing.snapshot(run),
        "save": lambda: saving.write(folder, arrays, header | {"step": next(steps)}, 3),
        "load": lambda: wing.load(folder, device=job["device"]),
    }
    modes = {}
    for mode, call in calls.items():
        seconds = clock.timed(call, job["device"], job.get("budget", 2.0), job.get("least", 5))
        modes[mode] = {"bytes": size, "memory": None, "seconds": clock.summary(seconds)}
    return {"modes": modes, "parity": parity}


def sections(found, drawn):
    """The report's words on rows of this kind."""
    measured = select(found, kind="io")
    if not measured:
        return []
    cells = {}
    for row in measured:
        cells.setdefault((row["name"], row["shape"]["preset"], label(row)), {})[row["mode"]] = row
    loading, saving = [], []
    for (name, preset, who), modes in cells.items():
        if name == "data" and set(DATA_MODES) <= set(modes):
            load, step = (modes[mode]["tokens_per_second"] for mode in DATA_MODES)
            loading.append((preset, who, f"{load:,.0f}", f"{step:,.0f}", f"{load / step:,.0f}"))
        elif name == "checkpoint":
            speeds = (modes[mode]["bytes"] / modes[mode]["seconds"]["median"] for mode in ("save", "load"))
            figures = [f"{speed / 1e6:,.0f}" for speed in speeds]
            stall = f"{1e3 * modes['copy']['seconds']['median']:.1f}"
            saving.append((preset, who, f"{modes['save']['bytes'] / 1e6:,.1f}", *figures, stall))
    titles = ("model", "who", "loading, tokens/s", "training, tokens/s", f"times (at least {ENOUGH})")
    words = ["## Data and checkpoints", table(titles, loading)]
    titles = ("model", "who", "checkpoint, MB", "save, MB/s", "load, MB/s", "a save holds training up for, ms")
    return ["\n\n".join(filter(None, [*words, table(titles, saving)]))]


PICTURES = {}


def problems(rows):
    """Rows whose loader is slower than ``ENOUGH`` times their training, in words."""
    cells = {}
    for row in rows:
        if row["kind"] == "io" and row["name"] == "data" and row["status"] == "ok":
            key = row["implementation"], row["dtype"], row["shape"]["preset"]
            cells.setdefault(key, {})[row["mode"]] = row["tokens_per_second"]
    slow = {key: rates["load"] / rates["step"] for key, rates in cells.items() if set(DATA_MODES) <= set(rates)}
    return [f"data {' '.join(key)}: loading is {times:.1f} times training, not {ENOUGH}" for key, times in slow.items()
            if times < ENOUGH]
