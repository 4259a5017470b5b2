"""From processes to rows: medians with spread, ratios of interleaved candidates, regressions against history.

A row is one cell in one mode: a plain dict, one line of JSON. ``check`` says what it must hold.
"""

import json
import statistics

SCHEMA = 1
CELL = ("kind", "name", "implementation", "dtype", "compiled", "allocator", "shape")
STATUSES = ("ok", "parity_failed", "unavailable", "error")
REQUIRED = (*CELL, "mode", "status", "schema", "run", "time", "commit", "dirty", "environment")


def quartiles(values):
    """(lower quartile, median, upper quartile), by linear interpolation; a single value is all three."""
    values = sorted(values)

    def at(share):
        place = share * (len(values) - 1)
        low = int(place)
        return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])

    return at(0.25), at(0.5), at(0.75)


def combine(job, answers, stamp):
    """The rows of one cell, one a mode, from the answers of its processes in the order of the rounds.

    One bad answer spoils the cell: its rows carry the status and the reason, and no time.
    """
    base = {key: job.get(key) for key in CELL} | stamp | {"schema": SCHEMA}
    bad = next((answer for answer in answers if answer["status"] != "ok"), None)
    if bad:
        return [
            base | {"mode": mode, "status": bad["status"], "reason": bad.get("reason", ""), "parity": bad.get("parity")}
            for mode in bad.get("modes") or ["all"]
        ]
    return [base | _row(mode, answers) for mode in answers[0]["modes"]]


def _row(mode, answers):
    parts = [answer["modes"][mode] for answer in answers]
    row = {"mode": mode, "status": "ok", "parity": _worst([answer["parity"] for answer in answers])}
    row |= {key: parts[0][key] for key in ("flops", "bytes", "tokens") if key in parts[0]}
    if "figures" in parts[0]:  # whatever else a kind reports
        row["figures"] = {
            name: statistics.median(part["figures"][name] for part in parts) for name in parts[0]["figures"]
        }
    if "seconds" in parts[0]:
        medians = [part["seconds"]["median"] for part in parts]
        low, middle, high = quartiles(medians)
        row["seconds"] = {
            "low": low,
            "median": middle,
            "high": high,
            "processes": medians,
            "fastest": min(part["seconds"]["fastest"] for part in parts),
            "repeats": sum(part["seconds"]["repeats"] for part in parts),
        }
        if "tokens" in row:
            row["tokens_per_second"] = row["tokens"] / middle
    if "value" in parts[0]:  # a rate of the machine
        row["value"], row["values"] = (
            statistics.median(part["value"] for part in parts),
            [part["value"] for part in parts],
        )
    peaks = [part["memory"] for part in parts if part.get("memory") is not None]
    row["memory"] = statistics.median(peaks) if peaks else None
    firsts = [answer["first_call_seconds"] for answer in answers if "first_call_seconds" in answer]
    if firsts:
        row["first_call_seconds"] = firsts[0]  # later processes find the compiler's cache filled
    return row | {"notes": answers[0]["notes"]} if answers[0].get("notes") else row


def _worst(parities):
    found = [parity for parity in parities if parity]
    return max(found, key=lambda parity: parity["worst"]) if found else None


def check(row):
    """Raise ValueError naming what is missing or contradictory in a row."""
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        raise ValueError(f"row lacks {', '.join(missing)}")
    if row["status"] not in STATUSES:
        raise ValueError(f"status {row['status']!r} is none of {', '.join(STATUSES)}")
    timed = "seconds" in row or "value" in row
    if timed != (row["status"] == "ok"):
        raise ValueError(f"a row of status {row['status']} {'has' if timed else 'lacks'} a time")


def cell(row, *without):
    """What makes two rows measurements of the same thing, up to the mode; ``without`` some of it."""
    return json.dumps([row[name] for name in CELL if name not in without], sort_keys=True)


def ratio(slower, faster):
    """How many times faster: quartiles of the ratios taken round by round, so that a slow minute hits both."""
    pairs = zip(slower["seconds"]["processes"], faster["seconds"]["processes"])
    scale = (faster.get("tokens") or 1) / (slower.get("tokens") or 1)
    return quartiles([scale * a / b for a, b in pairs])


def roofline(row, peaks):
    """The least time this work can take on this machine, what limits it, and the share of that speed that was reached.

        least = max(flops / matmul rate, bytes / copy bandwidth)        share = least / median

    ``bytes`` is the traffic nobody can avoid: every argument read once, every result written once. The copy rate is
    the one measured for a buffer of that size, since small work lives in a cache.
    """
    computing = {"int8": "bfloat16", "int4": "bfloat16"}.get(row["dtype"], row["dtype"])  # quantised: weights only
    rate = peaks["matmul"].get(computing) or peaks["matmul"]["float32"]
    compute = row.get("flops", 0) / rate
    traffic = row.get("bytes", 0) / bandwidth(peaks["copy"], row.get("bytes", 0))
    least = max(compute, traffic)
    return {
        "least_seconds": least,
        "limit": "compute" if compute >= traffic else "memory",
        "share": least / row["seconds"]["median"],
    }


def peaks(rows):
    """{"matmul": {number format: operations a second}, "copy" and "read": {bytes: bytes a second}} of the machine."""
    good = [row for row in rows if row["status"] == "ok"]
    products = {}
    for row in (row for row in good if row["name"] == "matmul"):
        products[row["dtype"]] = max(row["value"], products.get(row["dtype"], 0))
    copies, reads = (
        {int(row["mode"]): row["value"] for row in good if row["name"] == name} for name in ("copy", "read")
    )
    return {"matmul": products, "copy": copies, "read": reads} if products.get("float32") and copies else None


def bandwidth(copies, size):
    """Bytes a second for traffic of ``size`` bytes: the measured buffer nearest above, or the largest."""
    above = [buffer for buffer in copies if buffer >= size]
    return copies[min(above) if above else max(copies)]


def problems(rows):
    """What must not be, in words: wrong results of ours, and controls that did not come out as they must."""
    control = {row["implementation"]: row for row in rows if row["kind"] == "control"}
    wrong = control.pop("wrong")
    found = [
        f"{row['name']} {row['implementation']} {row['dtype']}: {row['reason']}"
        for row in rows
        if row["status"] in ("parity_failed", "error") and row["implementation"] in ("numpy", "torch")
    ]
    if wrong["status"] != "parity_failed":
        found.append("control: a planted wrong result was not refused")
    if {row["status"] for row in control.values()} != {"ok"} or not 1.5 < slept(control) < 3:
        found.append("control: a candidate that takes twice as long was not measured so")
    return found


def slept(control):
    """How many times as long the control that takes twice as long took, by the fastest calls: a busy machine lets
    sleepers oversleep, most of the time but not always."""
    return control["twice"]["seconds"]["fastest"] / control["known"]["seconds"]["fastest"]


def regressions(history, new, keep=5):
    """Rows of ``new`` that became slower, as (row, times slower). ``history`` is in order of time.

    Compared with the last ``keep`` medians of the same cell in the same environment: slower means by more than 5 % and
    more than 3 median absolute deviations, and that every single process was slower than the old median.
    """
    found = []
    for row in new:
        old = [r["seconds"]["median"] for r in history if "seconds" in r and _same(r, row)][-keep:]
        if not old or "seconds" not in row:
            continue
        middle = statistics.median(old)
        allowed = max(0.05 * middle, 3 * statistics.median(abs(value - middle) for value in old))
        if row["seconds"]["median"] > middle + allowed and min(row["seconds"]["processes"]) > middle:
            found.append((row, row["seconds"]["median"] / middle))
    return found


def _same(old, new):
    return (
        old["run"] != new["run"]
        and cell(old) == cell(new)
        and old["mode"] == new["mode"]
        and old["environment"] == new["environment"]
    )


def read(paths):
    """Rows of JSONL files, in order."""
    found = []
    for path in paths:
        with open(path) as lines:
            found += [json.loads(line) for line in lines if line.strip()]
    return found


def append(path, rows):
    """Check the rows and add them to a JSONL file, making its folder."""
    for row in rows:
        check(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)
