"""What a training step holds in memory, and what saving some of it costs.

The loss of a large vocabulary, with all logits at once and in chunks; a whole step with everything kept, with blocks
computed again, with the batch in parts, and in each number format.
"""

import numpy as np

from bench import clock, gate, rows
from bench.report_parts import select, size, table
from numpy_ref.presets import preset

VOCABULARIES = (50_257, 128_000)
TOKENS, WIDTH, CHUNK = 1024, 256, 128
SHOWN = 4096  # rows of the weight's gradient that are compared
STEPS = {
    "everything kept": {},
    "recompute": {"recompute": True},
    "accumulate 4": {"accumulate": 4},
    "accumulate 4, recompute": {"accumulate": 4, "recompute": True},
    "moving average": {"ema": 0.999},
}


def groups(options, name="small"):
    """Lists of jobs that take turns."""
    from bench.plan import job

    if options.quick:
        return []
    device, batch, found = options.device, max(1, options.batch // 4), []
    for vocabulary in VOCABULARIES:
        shape = {"vocabulary": vocabulary, "tokens": TOKENS, "width": WIDTH}
        kinds = [("numpy", "float32", "cpu"), ("torch", "float32", device), ("torch", "bfloat16", device)]
        found.append(
            [
                job("memory", "linear_cross_entropy", *kind, ["both"], **shape, how=how)
                for kind in kinds
                for how in ("all logits", f"chunks of {CHUNK}")
            ]
        )
    shape = {"preset": name, "batch": batch, "context": preset(name)[0].context}
    steps = [
        job("memory", "step", "torch", dtype, device, ["step"], **shape, how=how, settings=settings)
        for dtype in ("float32", "bfloat16")
        for how, settings in STEPS.items()
    ]
    steps.append(job("memory", "step", "torch", "float16", device, ["step"], **shape, how="everything kept"))
    steps += [
        job("memory", "step", "numpy", "float32", "cpu", ["step"], **shape, how=how, settings=STEPS[how])
        for how in ("everything kept", "recompute")
    ]
    return [*found, steps]


def measure(job):
    """What a training step needs with and without the options that save memory, and what they cost in time."""
    from bench import worker

    if job["name"] == "step":
        return worker.whole(job | {"kind": "training"})
    call, results, reference, work = make(job)
    parity = gate.compare(results(), gate.cached(job.get("cache"), label(job), reference), job["dtype"], slack=4)
    mode = work | {"memory": clock.peak_memory(call, job["device"])} | worker.timing(job, call, budget=1.0, least=3)
    return {"modes": {job["modes"][0]: mode}, "parity": parity}


def label(job):
    """Names the reference, which all formats and ways share."""
    return f"linear_cross_entropy {job['shape']['vocabulary']} {job['shape']['tokens']} {job['shape']['width']}"


def make(job):
    """(call, results, reference, work) of the loss, forward and backward, on either side."""
    arrays = _inputs(job["shape"])
    chunked = job["shape"]["how"] != "all logits"
    run = (_numpy if job["implementation"] == "numpy" else _torch)(job, arrays, chunked)

    def results():
        loss, dx, dweight = run()
        return {"loss": loss, "dx": dx, "dweight": dweight[:SHOWN]}

    def reference():
        wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays]
        loss, dx, dweight = _numpy(job, wide, False)()
        return {"loss": loss, "dx": dx, "dweight": dweight[:SHOWN]}

    tokens, width = arrays[0].shape
    work = {"flops": 6 * tokens * width * len(arrays[1]), "tokens": tokens}
    work["bytes"] = 2 * (4 if job["dtype"] == "float32" else 2) * (arrays[0].size + arrays[1].size)
    return run, lambda: _plain(results()), reference, work


def _inputs(shape):
    """Values that bfloat16 holds exactly, so that one reference serves all formats."""
    from bench.work import draw

    draw = draw("linear_cross_entropy")
    x, weight = draw((shape["tokens"], shape["width"])), draw((shape["vocabulary"], shape["width"]), 0.05)
    targets = draw.rng.integers(0, shape["vocabulary"], shape["tokens"])
    return x.astype(np.float32), weight.astype(np.float32), targets


def _numpy(job, arrays, chunked):
    from numpy_ref.model.linear import linear
    from numpy_ref.training.losses import cross_entropy, linear_cross_entropy

    x, weight, targets = arrays

    def run():
        if chunked:
            loss, vjp = linear_cross_entropy(x, weight, targets, chunk=CHUNK)
            return loss, *vjp(1.0)
        logits, linear_vjp = linear(x, weight)
        loss, vjp = cross_entropy(logits, targets)
        return loss, *linear_vjp(vjp(1.0))[:2]

    return run


def _torch(job, arrays, chunked):
    import torch

    from torch_impl.model.linear import linear
    from torch_impl.training.losses import cross_entropy, linear_cross_entropy

    x, weight, targets = (torch.from_numpy(array).to(job["device"]) for array in arrays)
    x, weight = (array.to(getattr(torch, job["dtype"])).requires_grad_() for array in (x, weight))

    def run():
        if chunked:
            loss = linear_cross_entropy(x, weight, targets, chunk=CHUNK)
        else:
            loss = cross_entropy(linear(x, weight), targets)
        return loss.detach(), *torch.autograd.grad(loss, (x, weight))

    return run


def _plain(results):
    from bench.sides import flatten

    return {name: flatten(value)["y"] for name, value in results.items()}


def sections(found, drawn):
    """The section of the report: each way of doing the same work against the first one."""
    found, lines = select(found, kind="memory"), []
    for row in found:
        same = [r for r in found if all(_key(r, name) == _key(row, name) for name in _SAME)]
        first, shape = same[0], row["shape"]
        what = f"vocabulary of {shape['vocabulary']:,}" if "vocabulary" in shape else f"step of {shape['preset']}"
        less = f"{first['memory'] / row['memory']:.2f}" if first.get("memory") and row.get("memory") else "-"
        longer = f"{rows.ratio(row, first)[1]:.2f}" if first["run"] == row["run"] else ""
        peak = size(row["memory"]) if row.get("memory") is not None else "-"
        milliseconds = f"{1e3 * row['seconds']['median']:,.0f}"
        lines.append((what, row["implementation"], row["dtype"], shape["how"], peak, less, milliseconds, longer))
    if not lines:
        return []
    intro = (
        f"The loss of {TOKENS} tokens of width {WIDTH}, output head included, forward and backward; and whole training "
        "steps. Memory is the peak above what was in use before; the ratios are against the first line of each kind."
    )
    titles = ("what", "who", "format", "how", "memory", "times less", "ms", "times the time")
    return [f"## Memory\n\n{intro}\n\n{table(titles, lines)}"]


PICTURES = {}


_SAME = ("name", "implementation", "dtype", "vocabulary", "preset")


def _key(row, name):
    return row.get(name, row["shape"].get(name))
