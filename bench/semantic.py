"""``make semantic``: part 10 at a small size, in at most 20 minutes on two cores, as one page.

    python -m bench.semantic [--out runs/semantic] [--size tiny|cpu|gpu] [--only NAMES]

    concepts        sentences as units: regression, diffusion and codes predict the next one
    thoughts        what a model may think between question and answer
    context         one written word with two meanings
    hyperbolic      a tree in curved and in flat space
    tokenizations   bytes, patches and BPE for the same training cost

Each is a command of its own (``python -m torch_impl NAME --help``) with all its settings. An experiment that is finished
is not done again, and one that was stopped goes on. The page is report.md in the folder.
"""

import re
import shlex
import sys
from pathlib import Path
from time import perf_counter

import torch_impl.__main__ as torch_side
from numpy_ref import cli
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.progress import clock

REPORT = "report.md"

# experiment: {size: options}
EXPERIMENTS = {
    "concepts": {
        "tiny": "--steps 20 --diffusion-steps 20 --autoencoder-steps 20 --width 16 --held-out 32",
        "cpu": "",
        "gpu": "--steps 6000 --diffusion-steps 12000 --width 512 --layers 6 --batch 128 --lr 5e-4 --seeds 3",
    },
    "thoughts": {
        "tiny": "--seeds 1 --steps 4 --batch 4 --eval-every 2 --hops 2 --nodes 4 --width 8 --heads 2",
        "cpu": "--seeds 1",
        "gpu": "--seeds 5 --hops 8 --nodes 20 --codes 32 --width 128 --steps 10000 --batch 512",
    },
    "context": {
        "tiny": "--data pydoc --seeds 1 --steps 2 --batch 8 --pairs 3 --vocab-size 50 --width 8 --heads 2 --span 2",
        "cpu": "--data pydoc --seeds 1",
        "gpu": "--data stdlib --seeds 5 --steps 10000 --batch 512 --pairs 200 --vocab-size 20000 --width 128 --span 32",
    },
    "hyperbolic": {
        "tiny": "--size tiny",
        "cpu": "--seeds 1",
        "gpu": "--size gpu",
    },
    "tokenizations": {
        "tiny": "--data samples --size tiny",
        "cpu": "--data stdlib --flops 1e12",
        "gpu": "--data stdlib --size gpu --seeds 3",
    },
}
SIZES = ("tiny", "cpu", "gpu")


def main(argv=None):
    """Run what is not finished, write the page; returns the exit status."""
    parser = cli.Parser(prog="python -m bench.semantic", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/semantic"), help="folder of the runs and the page (runs/semantic)")
    parser.add_argument("--size", choices=SIZES, default="cpu", help="how large (cpu: minutes)")
    parser.add_argument("--only", metavar="NAMES", default=",".join(EXPERIMENTS), help="with commas (all)")
    try:
        options = parser.parse_args(argv)
        names, times = names_of(options.only), {}
    except UserError as error:
        return cli.fail(str(error))
    for number, name in enumerate(names, 1):
        print(f"\n[{number}/{len(names)}] {name}", flush=True)
        start = perf_counter()
        status = perform(name, options.size, options.out / name)
        if status:
            return status
        times[name] = perf_counter() - start
    print(f"\n{write(options.out, times)}")
    return 0


def names_of(text):
    """The experiments in a list with commas. Raises UserError for what is none."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in EXPERIMENTS:
            raise UserError(f"--only does not take {name!r}; give some of {', '.join(EXPERIMENTS)}")
    return names


def perform(name, size, out):
    """Run an experiment, or go on with it; returns the exit status."""
    words = [name, "--resume"] if (out / f"{name}.json").exists() else [name, *shlex.split(EXPERIMENTS[name][size])]
    words += ["--out", str(out)]
    print("python -m torch_impl " + shlex.join(words), flush=True)
    return torch_side.main(words)


def write(out, times):
    """All reports as one page; returns its path."""
    rows = [f"| [{name}](#{name}) | {clock(seconds)} |" for name, seconds in times.items()]
    lines = ["# Units of meaning, and a space for trees", "", "| experiment | this time |", "| --- | ---: |", *rows]
    lines += [f"| all | {clock(sum(times.values()))} |", ""]
    for name in times:
        lines += [f'<a id="{name}"></a>', "", embedded((out / name / REPORT).read_text(encoding="utf-8"), name)]
    text = "\n".join(lines).rstrip() + "\n"
    replace(out / REPORT, lambda file: file.write(text.encode()))
    return out / REPORT


def embedded(text, folder):
    """A report of a folder as a part of a page beside it: headings a level lower, pictures found from there."""
    text = re.sub(r"^#", "##", text, flags=re.M)
    return re.sub(r"\]\((?!https?:|#)", f"]({folder}/", text)


if __name__ == "__main__":
    sys.exit(main())
