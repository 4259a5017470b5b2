"""What is lost when runs are killed and files damaged: nothing, counted.

Kills: `parity_tests/kill.py` kills training at random moments and resumes it, until every run has ended with the weights
of one that nobody disturbed. Fuzz: the tests that read thousands of damaged and made-up files, at the size of the night.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import gate
from bench.report_parts import select, size, table

KILLS, SEED = 50, 0
ROOT = Path(__file__).resolve().parents[1]
FUZZ = ("parity_tests/test_fuzz.py", "parity_tests/test_tokenizer_file.py")
CHOSEN = "3000 or bombs or parameters or thousands"  # the tests that count, at their nightly size


def groups(options, kills=KILLS, chosen=CHOSEN):
    """One job that kills, one that fuzzes; each once, for it takes minutes. They say nothing about a GPU."""
    from bench.plan import job

    if options.quick or options.device != "cpu":
        return []
    once = {"rounds": 1, "timeout": 4 * 3600}
    return [
        [job("reliability", "kills", "both", "float32", "cpu", ["all"], times=kills, seed=SEED) | once],
        [job("reliability", "fuzz", "both", "bytes", "cpu", ["all"], tests=chosen) | once],
    ]


def measure(job):
    """The answer to a job: ``figures``, and as ``value`` how many kills or files there were."""
    with tempfile.TemporaryDirectory() as folder:
        return {"kills": _kills, "fuzz": _fuzz}[job["name"]](job["shape"], Path(folder))


def _kills(shape, folder):
    """Raises ParityError where a resume failed or a run ended elsewhere."""
    from parity_tests import kill

    tally = kill.torture(shape["times"], shape["seed"], folder, say=lambda words: print(words, file=sys.stderr))
    wrong = {name: tally[name] for name in kill.WRONG if tally[name]}
    if wrong:
        raise gate.ParityError({"worst": float("inf"), "output": "a killed run", "problem": str(wrong)})
    figures = {name: tally[name] for name in kill.ROWS}
    return {"modes": {"all": {"value": tally["kills"], "figures": figures}}, "parity": None}


def _fuzz(shape, folder):
    """One mode for each kind of file. Raises ParityError where a test fails."""
    results = folder / "results.jsonl"
    results.touch()
    command = [sys.executable, "-m", "pytest", *FUZZ, "--hypothesis-profile", "nightly", "-k", shape["tests"]]
    variables = os.environ | {"PARITY_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, stdout=sys.stderr)
    counts = [json.loads(line) for line in results.read_text().splitlines()]
    counts = [row for row in counts if "fuzz" in row]
    if done.returncode or not counts:
        raise gate.ParityError({"worst": float("inf"), "output": "a damaged file", "problem": f"pytest: {done.returncode}"})
    modes = {}
    for what in dict.fromkeys(row["fuzz"] for row in counts):
        own = [row for row in counts if row["fuzz"] == what]
        figures = {name: sum(row[name] for row in own) for name in ("read", "refused")}
        figures["memory"] = max(row.get("memory", 0) for row in own)
        modes[what] = {"value": figures["read"] + figures["refused"], "figures": figures}
    return {"modes": modes, "parity": None}


def sections(found, drawn):
    """Two tables: what the kills met, and what became of damaged files."""
    from parity_tests.kill import ROWS

    kills = select(found, kind="reliability", name="kills")
    fuzz = select(found, kind="reliability", name="fuzz")
    words = []
    for row in kills:
        words.append(
            "A run that saves at every step is killed with SIGKILL at a random moment of a step or of a save and resumed "
            "until it ends, on one wing after the other; now and then the newest checkpoint is cut short or altered too. "
            "Bit-identical: weights, optimiser states and logged losses of a run that nobody disturbed."
        )
        words.append(table(("kills of training", "number"), [(name, f"{row['figures'][name]:.0f}") for name in ROWS]))
    lines = [
        (row["mode"], f"{row['value']:,.0f}", *(f"{row['figures'][name]:,.0f}" for name in ("read", "refused")),
         size(row["figures"]["memory"]) if row["figures"]["memory"] else "")
        for row in fuzz
    ]  # fmt: skip
    if lines:
        total = sum(row["value"] for row in fuzz)
        words.append(
            f"{total:,.0f} damaged or made-up files: each was read, or refused with one clear line; no code in them ran, "
            "and none took more memory than the bound of the tests."
        )
        words.append(table(("files", "number", "read", "refused", "memory at most"), lines))
    return ["\n\n".join(["## Reliability", *words])] if words else []


PICTURES = {}
