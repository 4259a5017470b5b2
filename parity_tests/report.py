"""Runs the parity suite and writes what it measured: a table, the numbers, and a heat map.

python -m parity_tests [--profile dev|ci|nightly] [--out runs/parity]
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from parity_tests.components import COMPONENTS

HERE = Path(__file__).parent
FILES = ("test_components.py", "test_bugs.py", "test_harness.py", "test_mirror.py")
COLUMNS = ("complex step", "numpy float32", "float64", "float32", "bfloat16", "float16", "compiled", "cuda")


def main(argv=None):
    options = parse(argv)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    status, rows = run_suite(options.profile)
    report = summarise(rows, options.profile, status, time.monotonic() - began)
    text = "\n".join(table(report))
    (out / "parity.md").write_text(f"# Parity\n\n{legend(report)}\n\n{text}\n\n{one_line(report)}\n")
    (out / "parity.json").write_text(json.dumps(report, indent=1))
    from parity_tests.heat_map import draw

    draw(report, out / "parity.png")
    print(f"\n{text}\n\n{one_line(report)}\nTable, numbers and heat map: {out}/parity.md, .json, .png")
    return status


def parse(argv):
    parser = argparse.ArgumentParser(prog="python -m parity_tests", description="prove the two wings equal")
    parser.add_argument(
        "--profile", default="ci", choices=("dev", "ci", "nightly"), help="how many examples (default ci)"
    )
    parser.add_argument("--out", default="runs/parity", help="folder for the table and the heat map")
    return parser.parse_args(argv)


def run_suite(profile):
    """(exit status of pytest, every row that a test recorded)."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.jsonl"
        results.touch()
        command = [
            sys.executable,
            "-m",
            "pytest",
            *(str(HERE / name) for name in FILES),
            "--hypothesis-profile",
            profile,
        ]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        command += ["-n", str(min(cores, 8))]
        environment = os.environ | {"PARITY_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
        status = subprocess.run(command, env=environment, cwd=HERE.parent).returncode
        return status, [json.loads(line) for line in results.read_text().splitlines()]


def summarise(rows, profile, status, seconds):
    """Everything the report shows, ready for JSON."""
    components = []
    for component in COMPONENTS:
        own = [row for row in rows if row["component"] == component.name]
        bugs = [row for row in own if "bug" in row]
        components.append(
            {
                "name": component.name,
                "file": component.module.replace(".", "/") + ".py",
                "exact": component.exact,
                "cells": {column: cell(own, column) for column in COLUMNS},
                "bugs": [{key: row[key] for key in ("bug", "margin", "share", "caught")} for row in bugs],
                "planted": len(component.bugs),
            }
        )
    machine = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})",
    }
    return {
        "profile": profile,
        "status": status,
        "seconds": round(seconds, 1),
        "machine": machine,
        "components": components,
    }


def cell(rows, column):
    """The worst of what was measured: {"ratio", "where"}, {"failed": true}, or None where nothing was."""
    found = [row for row in rows if row.get("column") == column or row.get("column", "").startswith(column + " ")]
    if any(row.get("failed") for row in found):
        return {"failed": True, "where": next(row["where"] for row in found if row.get("failed"))}
    worst = max(found, key=lambda row: row["ratio"], default=None)
    return worst and {"ratio": worst["ratio"], "where": worst["where"]}


def smallest_margin(component):
    """Of its planted bugs, in budgets; infinite where each was wrong in kind (shape, format, NaN, an exact value)."""
    margins = [math.inf if bug["margin"] is None else bug["margin"] for bug in component["bugs"]]
    return min(margins, default=math.nan)


def shown_columns(report):
    return [c for c in COLUMNS if any(component["cells"][c] for component in report["components"])]


def show(component, column):
    found = component["cells"][column]
    if found is None:
        return ""
    if found.get("failed"):
        return "FAILED"
    return "equal" if component["exact"] else f"{found['ratio']:.2f}"


def show_margin(margin):
    return (
        "other kind"
        if math.isinf(margin)
        else ""
        if math.isnan(margin)
        else f"{margin:.0f}"
        if margin < 1e4
        else f"{margin:.0e}"
    )


def table(report):
    """Markdown, one line a component."""
    columns = shown_columns(report)
    yield "| component | " + " | ".join(columns) + " | bugs caught | smallest margin |"
    yield "|---|" + "--:|" * (len(columns) + 2)
    for component in report["components"]:
        caught = sum(bug["caught"] for bug in component["bugs"])
        cells = [show(component, column) for column in columns]
        cells += [f"{caught}/{component['planted']}", show_margin(smallest_margin(component))]
        yield f"| {component['name']} | " + " | ".join(cells) + " |"


def legend(report):
    machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    return (
        "Worst error of each component over all drawn cases, in budgets: 1.00 is the most that rounding explains, "
        "`equal` is equal to the last bit. `complex step`: the hand-derived backward pass against the forward pass; "
        "`numpy float32`: the reference in float32 against itself in float64; all others: Torch against the float64 "
        "reference. "
        f"Margin: the error of the least visible planted bug, in budgets.\n\nProfile {report['profile']}; {machine}."
    )


def one_line(report):
    cells = [
        (component["cells"][column]["ratio"], component["name"], column)
        for component in report["components"]
        for column in COLUMNS
        if component["cells"][column] and not component["cells"][column].get("failed")
    ]
    failed = sum(bool(c and c.get("failed")) for component in report["components"] for c in component["cells"].values())
    ratio, name, column = max(cells, default=(math.nan, "nothing", "measured"))
    caught = sum(bug["caught"] for component in report["components"] for bug in component["bugs"])
    planted = sum(component["planted"] for component in report["components"])
    margin, weakest = min(
        ((smallest_margin(c), c["name"]) for c in report["components"] if c["bugs"]), default=(math.nan, "")
    )
    verdict = (
        "PARITY HOLDS" if report["status"] == 0 else f"PARITY FAILS ({failed} cells of the table; see the tests above)"
    )
    return (
        f"{verdict}: {len(report['components'])} components, worst error {ratio:.2f} of its budget ({name}, {column}); "
        f"{caught} of {planted} planted bugs caught, the least visible at {margin:.1f} budgets ({weakest}); "
        f"{report['seconds']:.0f} s."
    )
