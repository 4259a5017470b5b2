"""``python -m bench``: measure, append rows, write the report."""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from bench import environment, io, plan, rows
from bench.runner import ROOT, Runner


def arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split(":", 1)[1].strip())
    parser.add_argument(
        "--peers", action="store_true", help="measure other projects too (`make bench PEERS=1` installs them)"
    )
    parser.add_argument("--quick", action="store_true", help="a minute's worth of small cells, into runs/bench")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes CUDA where there is one"
    )
    parser.add_argument(
        "--threads", type=int, default=environment.cores(), help="threads of a worker (default: all cores)"
    )
    parser.add_argument("--rounds", type=int, help="processes a cell (default 3; quick: 2)")
    parser.add_argument(
        "--batch", type=int, default=32, help="sequences in the showcase's cells; a quarter in the small model's"
    )
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="only these components, models, kinds, or kind/model"
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="a trained run for quality and speculation (none: train)")
    parser.add_argument("--draft", metavar="DIR", help="a smaller trained run that guesses for speculation")
    parser.add_argument(
        "--data", default="pydoc", help="the text of the speedrun: pydoc (default), stdlib, a text file or a folder"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (default bench/results; quick: runs/bench)")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="measure nothing; write the report of a device's folder"
    )
    options = parser.parse_args(argv)
    if options.threads < 1 or options.batch < 1 or (options.rounds or 1) < 1:
        parser.error("--threads, --batch and --rounds must be at least 1")
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.out = options.out or (ROOT / "runs" / "bench" if options.quick else ROOT / "bench" / "results")
    return options


def main(argv=None):
    """Run the bench; returns the exit status: 1 if a result of ours was wrong, or the bench's own controls failed."""
    options = arguments(argv)
    if not options.report:
        options.report, fine = measure(options)
    else:
        fine = True
    from bench import report

    print("report:", report.write(options.report))
    return 0 if fine else 1


def measure(options):
    """(folder of the device's results, whether every result was right and the controls came out as they must)."""
    if options.device == "auto":
        options.device = "cuda" if _has_cuda() else "cpu"
    runner = Runner(options.threads, options.rounds, options.device, say=lambda text: print(text, flush=True))
    folder = options.out / environment.slug(runner.stamp["environment"])
    path = folder / f"{time.strftime('%Y-%m-%d', time.gmtime())}-{runner.stamp['commit']}.jsonl"
    names = (field.name for field in dataclasses.fields(plan.Options))
    groups = plan.groups(plan.Options(**{name: getattr(options, name) for name in names}))
    found = []
    for new in runner.run(groups):
        rows.append(path, new)
        found += new
    problems = rows.problems(found) + io.problems(found)
    for problem in problems:
        print("problem:", problem, file=sys.stderr)
    return folder, not problems


def _has_cuda():
    """Asked in a process of its own: this one stays small."""
    import subprocess

    code = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
