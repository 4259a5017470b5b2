"""The report of a device's folder: tables and pictures, made from the rows alone. Never edited by hand."""

from pathlib import Path

from bench import kinds, pictures, rows
from bench.report_parts import NAMES, compared, factor, label, memory, milliseconds, select, size, table

HOW_TO_READ = """\
Every cell ran in processes of its own, the candidates of a table taking turns. Times are medians of the processes'
medians, in brackets the quartiles of those medians; a ratio is taken round by round, then the median. Where other
programs share the machine, only the ratios mean much. A cell is timed only after its result was compared with the
float64 NumPy reference.

*Roofline* is the share of the best speed that the limits below allow for the operations and the unavoidable memory
traffic of the work: every argument read once, every result written once. A chain of operations that is not fused moves
more, and stays far below; work that lives in a faster cache than the copy did may come out above. *Memory* is what a
call adds at its peak."""


def write(folder):
    """Write report.md and its pictures next to the newest rows; returns the path of the report."""
    folder = Path(folder)
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"{folder} has no .jsonl file; measure first: python -m bench")
    history = sorted(rows.read(files), key=lambda row: row["run"])  # by the clock of the runs: a checkout loses that of files
    newest = with_limits(latest(history), history)
    drawn = pictures.draw(folder, newest)
    text = "\n\n".join(
        filter(
            None,
            [
                heading(newest),
                instrument(newest),
                *whole(newest, "training", drawn),
                *whole(newest, "generation", drawn),
                *(text for module in kinds.modules() for text in module.sections(newest, drawn)),
                components(newest, drawn),
                details(newest),
                refused(newest),
                slower(history, newest),
            ],
        )
    )
    path = folder / "report.md"
    path.write_text(text + "\n")
    return path


def latest(found):
    """The rows of every cell's newest run: a refusal replaces the times of before, a new batch size the old one."""
    cells = {}
    for row in found:
        cells.setdefault((rows.cell(row, "shape"), row["run"]), []).append(row)
    newest = {}
    for (cell, _), group in cells.items():
        newest[cell] = group
    return [row for group in newest.values() for row in group]


def with_limits(newest, history):
    """The rows with the machine's limits that their own run measured, as ``limits`` (None: it measured none)."""
    machine = {}
    for row in history:
        if row["kind"] == "machine":
            machine.setdefault(row["run"], []).append(row)
    limits = {run: rows.peaks(found) for run, found in machine.items()}
    return [row | {"limits": limits.get(row["run"])} for row in newest]


def heading(found):
    """What ran where and when, and how the tables are to be read."""
    e = found[-1]["environment"]
    dates = sorted({row["time"][:10] for row in found})
    commits = sorted({row["commit"] + (" with changes" if row["dirty"] else "") for row in found})
    words = [
        f"{e['gpu']} (CUDA {e['cuda']}, driver {e['driver']})" if "gpu" in e else None,
        f"{e['cpu']}, {e['threads']} threads on {e['cores']} cores, {e['memory_gib']} GiB",
        f"{e['system']}, Python {e['python']}, NumPy {e['numpy']} ({e['blas']}), PyTorch {e['torch']}",
    ]
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return (
        f"# Bench on {e.get('gpu') or e['cpu']}\n\n{'; '.join(filter(None, words))}. "
        f"Measured {when} at {', '.join(commits)}.\n\n{HOW_TO_READ}"
    )


def instrument(found):
    """The machine's limits, and what the bench says about candidates whose answer is known."""
    lines = [
        (
            f"{NAMES[row['implementation']]} {row['dtype']} product of {row['shape']['size']} x {row['shape']['size']}",
            f"{row['value'] / 1e9:,.0f} GFLOP/s",
        )
        for row in select(found, name="matmul")
    ]
    for name, words in (("copy", "copy that moves"), ("read", "sum that reads")):
        lines += [
            (f"{words} {size(int(row['mode']))}", f"{row['value'] / 1e9:,.1f} GB/s")
            for row in select(found, kind="machine", name=name)
        ]
    control = {row["implementation"]: row for row in found if row["kind"] == "control"}
    text = "## The machine and the instrument\n\n" + table(("limit", "measured"), lines)
    if {"known", "twice", "wrong"} <= set(control):
        times = rows.slept(control)
        verdict = "was refused" if control["wrong"]["status"] == "parity_failed" else "**WAS NOT REFUSED**"
        text += (
            f"\n\nControls: a candidate that takes twice as long was measured {times:.2f} times as long; "
            f"a planted result that is wrong by a thousandth {verdict}."
        )
    return text


def whole(found, kind, drawn):
    """A section for each model that was trained or generated from."""
    for name in dict.fromkeys(row["name"] for row in select(found, kind=kind)):
        measured = select(found, kind=kind, name=name)
        measured.sort(key=lambda row: -row["tokens_per_second"])
        shape = measured[0]["shape"]
        work = (
            f"One step on {shape['batch']} x {shape['context']} tokens: forward, backward, clipping, AdamW"
            if kind == "training"
            else f"{shape['tokens']} tokens after a prompt of 16, greedy, batch 1"
        )
        lines = []
        for row in measured:
            q = row["seconds"]
            low, high = row["tokens"] / q["high"], row["tokens"] / q["low"]
            lines.append(
                (
                    label(row),
                    f"{row['tokens_per_second']:,.0f} [{low:,.0f}, {high:,.0f}]",
                    f"{1e3 * q['median']:,.1f}",
                    memory(row),
                    f"{row['first_call_seconds']:.1f}",
                    share(row),
                    f"{row['notes']['parameters']:,}",
                )
            )
        titles = ("who", "tokens/s", "ms", "memory", "first call, s", "roofline", "parameters")
        picture = f"\n\n![{kind} of {name}]({kind}.png)" if f"{kind}.png" in drawn else ""
        yield f"## {kind.capitalize()}: {name}\n\n{work}.\n\n{table(titles, lines)}\n\n{verdicts(measured)}{picture}"


def verdicts(measured):
    """The ratios that matter, each of two candidates that took turns in one run."""

    def best(*implementations, **wanted):
        return next((row for row in select(measured, **wanted) if row["implementation"] in implementations), None)

    ours, peers = best("torch"), ("hf", "litgpt", "plain")
    lines = [
        compared("Best against the best peer", ours, best(*peers, allocator="default")),
        compared("The same, a peer with our allocator settings", ours, best(*peers, allocator="tuned")),
    ]
    if best(*peers, allocator="default") is not best("hf"):
        lines.append(compared("Best against Hugging Face", ours, best("hf")))
    lines += [
        compared("NumPy against eager float32 Torch", best("numpy"), best("torch", dtype="float32", compiled=False)),
        compared("Best against NumPy", ours, best("numpy")),
    ]
    return "\n".join(filter(None, lines))


def share(row):
    limit = row.get("roofline")
    return f"{limit['share']:.0%} ({limit['limit']})" if limit else "-"


def components(found, drawn):
    """NumPy against Torch, forward and backward together where there is a backward."""
    lines = []
    for name in dict.fromkeys(row["name"] for row in select(found, kind="component")):
        sides = by_side(found, name, "both") or by_side(found, name, "forward")
        reference = sides.get("numpy")
        line = [name, milliseconds(reference)]
        for row in (sides.get("torch"), sides.get("torch bfloat16")):
            line += [milliseconds(row), times(reference, row), share(row) if row else ""]
        lines.append(line)
    titles = (
        "component",
        "NumPy, ms",
        "Torch, ms",
        "times faster",
        "roofline",
        "Torch bfloat16, ms",
        "times faster",
        "roofline",
    )
    if not lines:
        return ""
    shapes = {f"{row['shape']['preset']}, batch {row['shape']['batch']}" for row in select(found, kind="component")}
    intro = f"Forward and backward together where there is a backward, at the shapes of {' and '.join(sorted(shapes))}."
    pictures = [f"![{name}]({name}.png)" for name in ("components", "roofline") if f"{name}.png" in drawn]
    return "\n\n".join(["## Components", intro, table(titles, lines), *pictures])


def by_side(found, name, mode):
    """{"numpy", "torch", "torch bfloat16": row}; the first two in float32, or in the only format that there is."""
    measured = select(found, kind="component", name=name, mode=mode)
    return {row["implementation"] + (" bfloat16" if row["dtype"] == "bfloat16" else ""): row for row in measured}


def times(reference, row):
    return factor(rows.ratio(reference, row)[1]) if reference and row and reference["run"] == row["run"] else ""


def details(found):
    """Every mode of every component."""
    lines = [
        (
            row["name"],
            NAMES[row["implementation"]],
            row["dtype"],
            row["mode"],
            f"{milliseconds(row)} [{1e3 * row['seconds']['low']:.3g}, {1e3 * row['seconds']['high']:.3g}]",
            f"{row['flops'] / row['seconds']['median'] / 1e9:.1f}",
            f"{row['bytes'] / row['seconds']['median'] / 1e9:.1f}",
            share(row),
            memory(row),
            f"{row['parity']['worst']:.2f}",
        )
        for row in select(found, kind="component")
    ]
    titles = ("component", "side", "format", "mode", "ms", "GFLOP/s", "GB/s", "roofline", "memory", "error in bounds")
    return "## Every measurement\n\n" + table(titles, lines) if lines else ""


def refused(found):
    """What has no time, and why."""
    bad = {(row["name"], label(row)): row for row in found if row["status"] != "ok" and row["kind"] != "control"}
    lines = [
        (name, who, row["status"].replace("_", " "), row["reason"].replace("|", "/"))
        for (name, who), row in bad.items()
    ]
    return "## Not timed\n\n" + table(("what", "who", "status", "reason"), lines) if lines else ""


def slower(history, newest):
    """What became slower than in earlier runs on the same device with the same versions."""
    found = rows.regressions(history, [row for row in newest if "seconds" in row and row["kind"] != "control"])
    lines = [(row["name"], label(row), row["mode"], f"{factor:.2f}") for row, factor in found]
    return "## Slower than before\n\n" + table(("what", "who", "mode", "times the old median"), lines) if lines else ""
