"""Sliding windows against full attention as texts grow: time and peak memory, forward and with the backward pass.

Attention of one layer of `llama-10m`'s shape. Full attention is what a model without a window would run: the fused
kernel, whose time grows with the square of the text. Before anything is timed, the result at the shortest length and
its gradients are compared with the float64 reference.
"""

import time

import numpy as np

from bench import clock, gate, sides
from bench.report_parts import factor, milliseconds, select, size, table
from bench.work import to_bfloat16

LENGTHS, WINDOW = (2048, 4096, 8192, 16384), 256
HEADS, SHARED, FEATURES = 6, 2, 64
PASSES = ("forward", "both")


def groups(options):
    """The window and the full attention take turns, in each format."""
    if options.quick:
        return []
    return [
        [
            {
                "kind": "window",
                "name": "window" if window else "full",
                "implementation": "torch",
                "dtype": dtype,
                "compiled": False,
                "allocator": "tuned",
                "shape": {"window": window, "heads": HEADS, "kv_heads": SHARED, "features": FEATURES},
                "modes": [f"{mode} {length}" for length in LENGTHS for mode in PASSES],
                "device": options.device,
            }
            for window in (WINDOW, 0)
        ]
        for dtype in ("float32", "bfloat16")
    ]


def measure(job):
    """Every length that ``modes`` names, shortest first."""
    import torch

    device, dtype, window = job["device"], getattr(torch, job["dtype"]), job["shape"]["window"]
    modes, parity = {}, None
    for mode in job["modes"]:
        kind, length = mode.split()
        arrays = inputs(job, int(length))
        query, key, value, dy = (torch.from_numpy(x).to(device, dtype) for x in arrays)
        leaves = [x.requires_grad_() for x in (query, key, value)]

        def forward():
            return attention(*leaves, window)

        def both():
            return torch.autograd.grad(forward(), leaves, dy)

        if parity is None:
            results = sides.flatten({"y": forward(), "d": both()}, "")
            label_ = f"window {job['shape']} {length}"
            wanted = gate.cached(job.get("cache"), label_, lambda: reference(arrays, window))
            parity = gate.compare(results, wanted, job["dtype"], slack=4)
        call = {"forward": forward, "both": both}[kind]
        flops, traffic = work(job, int(length), kind)
        start = time.perf_counter()
        memory = clock.peak_memory(call, device)
        long = time.perf_counter() - start > 1
        seconds = clock.timed(call, device, job.get("budget", 1.0), least=1 if long else 3, warm=not long)
        modes[mode] = {"seconds": clock.summary(seconds), "memory": memory, "flops": flops, "bytes": traffic}
    return {"modes": modes, "parity": parity}


def inputs(job, length):
    """Query, key, value and the cotangent, float32 of few bits: every format gets the same numbers."""
    rng, shape = np.random.default_rng(5), job["shape"]
    heads = (shape["heads"], shape["kv_heads"], shape["kv_heads"], shape["heads"])
    return [to_bfloat16(rng.normal(size=(1, n, length, shape["features"]))).astype(np.float32) for n in heads]


def attention(query, key, value, window):
    from torch_impl.model.attention import scaled_dot_product_attention, sliding_window_attention

    if window:
        return sliding_window_attention(query, key, value, window)
    return scaled_dot_product_attention(query, key, value, None, True)


def reference(arrays, window):
    """The same by the float64 NumPy reference."""
    from numpy_ref.model.attention import scaled_dot_product_attention, sliding_window_attention

    query, key, value, dy = (x.astype(np.float64) for x in arrays)
    if window:
        y, vjp = sliding_window_attention(query, key, value, window)
    else:
        y, vjp = scaled_dot_product_attention(query, key, value, None, True)
    return sides.flatten({"y": y, "d": vjp(dy)[:3]}, "")


def work(job, length, kind):
    """(operations, unavoidable bytes): each query meets its visible keys in two products; 2.5 times as much back."""
    shape, width = job["shape"], {"float32": 4, "bfloat16": 2}[job["dtype"]]
    seen = min(shape["window"] or length, length)
    pairs = seen * (seen + 1) / 2 + (length - seen) * seen
    arrays = (2 * shape["heads"] + 2 * shape["kv_heads"]) * length * shape["features"] * width
    times = 1 if kind == "forward" else 3.5
    return times * 4 * shape["heads"] * shape["features"] * pairs, arrays * (1 if kind == "forward" else 2)


def sections(found, drawn):
    """Time and memory by length, and how each grows when the text doubles."""
    measured = select(found, kind="window")
    if not measured:
        return
    lines = []
    for dtype in dict.fromkeys(row["dtype"] for row in measured):
        for mode in PASSES:
            by = {(row["name"], row["mode"]): row for row in measured if row["dtype"] == dtype}
            lengths = [n for n in LENGTHS if ("window", f"{mode} {n}") in by and ("full", f"{mode} {n}") in by]
            for n in lengths:
                banded, full = (by[name, f"{mode} {n}"] for name in ("window", "full"))
                half = [by.get((name, f"{mode} {n // 2}")) for name in ("window", "full")]
                lines.append(
                    (
                        f"{dtype} {'forward' if mode == 'forward' else 'forward and backward'}",
                        f"{n:,}",
                        milliseconds(banded) + _growth(half[0], banded),
                        milliseconds(full) + _growth(half[1], full),
                        factor(full["seconds"]["median"] / banded["seconds"]["median"]),
                        size(banded["memory"]) if banded["memory"] is not None else "-",
                        size(full["memory"]) if full["memory"] is not None else "-",
                    )
                )
    shape = measured[0]["shape"]
    titles = ("pass", "tokens", f"window of {WINDOW}, ms", "full, ms", "times faster", "window, memory", "full, memory")
    words = (
        f"One attention of {shape['heads']} heads of {shape['features']} features, {shape['kv_heads']} key heads, "
        f"batch 1; in brackets: times the row for half as many tokens (2: linear, 4: quadratic). "
        "The window's memory is linear too, but more than the fused kernel's, which keeps no scores: each block of "
        "queries gets a copy of the keys and values that it sees."
    )
    picture = "\n\n![windows](windows.png)" if "windows.png" in drawn else ""
    yield f"## Sliding windows against full attention\n\n{words}\n\n{table(titles, lines)}{picture}"


def _growth(half, whole):
    return f" ({whole['seconds']['median'] / half['seconds']['median']:.1f})" if half else ""


def picture(measured):
    """Time and memory over length, both axes logarithmic: a window's lines rise with slope 1."""
    from bench.pictures import COLOURS, figure_with_panels

    measured = [row for row in measured if row["kind"] == "window"]
    if not measured:
        return None
    figure, panels = figure_with_panels(9.6, 6.2, nrows=2, ncols=2, squeeze=False)
    styles = {"window": (COLOURS["torch", "bfloat16"], "o"), "full": (COLOURS["numpy", "float32"], "s")}
    for column, mode in enumerate(PASSES):
        for row_number, (name, unit, value) in enumerate(
            (
                ("time", "ms", lambda row: 1e3 * row["seconds"]["median"]),
                ("peak memory", "MiB", lambda row: (row["memory"] or 0) / 2**20),
            )
        ):
            axes = panels[row_number][column]
            for who, (colour, marker) in styles.items():
                for dtype, dashes in (("float32", "-"), ("bfloat16", "--")):
                    points = sorted(
                        (int(row["mode"].split()[1]), value(row))
                        for row in measured
                        if row["name"] == who and row["dtype"] == dtype and row["mode"].startswith(mode)
                    )
                    if points:
                        words = f"{'window of ' + str(WINDOW) if who == 'window' else 'full'}, {dtype}"
                        axes.plot(*zip(*points), dashes, color=colour, marker=marker, markersize=5, label=words)
            axes.set(xscale="log", yscale="log", ylabel=f"{name}, {unit}")
            axes.set_xticks(LENGTHS, [f"{n // 1024}k" for n in LENGTHS])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("tokens")
            axes.yaxis.set_major_formatter("{x:,.0f}")
            axes.yaxis.set_minor_formatter("")
            axes.set_title(f"{'forward' if mode == 'forward' else 'forward and backward'}: {name}", loc="left")
            axes.grid(which="major")
    panels[0][0].legend(frameon=False, fontsize=8)
    return figure


PICTURES = {"windows.png": picture}
