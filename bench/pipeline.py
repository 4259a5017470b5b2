"""``make pipeline``: one small model from nothing to an assistant that was rewarded, with the commands that anybody would type.

    python -m bench.pipeline [--out runs/pipeline] [--steps N]

    base      pretraining on CPython's help texts
    sft       100 examples of sorting eight digits, as conversations
    reward    a reward model, from graded pairs of answers
    ppo       on right answers and the reward model's score       grpo      on right answers alone
    chat      the same questions to each of them

A stage that is finished is not done again, and one that was stopped goes on. The report, one page with pictures, is
report.md in the folder.
"""

import contextlib
import io
import json
import shlex
import sys
from pathlib import Path
from time import perf_counter

import torch_impl.__main__ as torch_side
from numpy_ref import checkpoint_file, cli, log
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.plots import BLUE, QUIET, RED, canvas
from numpy_ref.progress import clock
from numpy_ref.tasks.builtin import find
from numpy_ref.tasks.task import examples

TASK = "sort-8"
QUESTIONS = 4
ASKED = {"limit": 300, "samples": 8}
SHORT = 3  # steps of a stage under which it is only tried out

MIXED = "--reward right --reward OUT/reward=0.1"  # the score alone is soon pleased by answers that are wrong: see `make rl`

# stage: (command, options without --out and --steps, steps)
STAGES = {
    "base": ("train --preset showcase --data pydoc", 300),
    "sft": (f"sft --checkpoint OUT/base --data {TASK} --examples 100 --batch 64 --lr 0.001 --judge 0", 120),
    "reward": (f"reward --checkpoint OUT/sft --data {TASK} --pairs 10000 --batch 64 --lr 0.001", 300),
    "ppo": (f"ppo --checkpoint OUT/sft --task {TASK} --tokens 12 {MIXED} --kl-reward 0.02 --minibatches 4 --seed 1", 80),
    "grpo": (f"grpo --checkpoint OUT/sft --task {TASK} --tokens 12 --minibatches 4 --dynamic 2 --seed 1", 80),
}
COMMON = "--dtype float32"  # seed 1: other prompts than those of the examples
POLICIES = {"sft": "fine-tuned", "ppo": "then PPO", "grpo": "or GRPO"}


def main(argv=None):
    """Run what is not finished, write the report; returns the exit status."""
    parser = cli.Parser(prog="python -m bench.pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/pipeline"), help="folder of the runs and the report (runs/pipeline)")
    parser.add_argument("--steps", type=int, default=None, help="steps of each stage (its own)")
    try:
        options, times = parser.parse_args(argv), {}
    except UserError as error:
        return cli.fail(str(error))
    for number, (stage, (command, steps)) in enumerate(STAGES.items(), 1):
        heading(f"[{number}/{len(STAGES) + 1}] {stage}")
        steps, start = options.steps or steps, perf_counter()
        status = perform(options.out, stage, command, steps)
        if status:
            return status
        times[stage] = spent(options.out / stage, perf_counter() - start)
    heading(f"[{len(STAGES) + 1}/{len(STAGES) + 1}] chat, and the report")
    limit = ASKED | ({"limit": 4, "samples": 2} if (options.steps or SHORT + 1) <= SHORT else {})
    found = {stage: judged(options.out / stage, limit) for stage in POLICIES}
    asked = [one.prompt for one in examples(find(TASK), "held_out", QUESTIONS, seed=5)]
    said = {stage: chat(options.out / stage, asked) for stage in POLICIES}
    path = write(options.out, times, found, asked, said)
    print(path.read_text().partition("## How")[0])
    print(path)
    return 0


def heading(words):
    print(f"\n\033[1m{words}\033[0m" if sys.stdout.isatty() else f"\n{words}", flush=True)


def perform(out, stage, command, steps):
    """Run a stage's command, go on with it where it was stopped, or do nothing where it is finished."""
    folder = out / stage
    rows = log.read_rows(folder / log.NAME)
    if checkpoint_file.exists(folder) and rows and rows[-1]["step"] >= steps:
        print("finished before")
        return 0
    if checkpoint_file.exists(folder):
        words = [command.split()[0], "--resume"]
    else:
        words = shlex.split(f"{command} {COMMON}".replace("OUT", str(out)))
    words += ["--steps", str(steps), "--out", str(folder)]
    print("python -m torch_impl " + shlex.join(words), flush=True)
    return torch_side.main(words)


def spent(folder, seconds):
    """Seconds of a stage, also where it was finished before: those of its log."""
    rows = log.read_rows(folder / log.NAME)
    return max(rows[-1]["time"], seconds) if rows else seconds


def judged(folder, limit):
    """What `answers` says of a policy on held-out prompts."""
    words = ["answers", "--checkpoint", str(folder), "--data", TASK, "--tokens", "12", "--json"]
    words += [part for name, value in limit.items() for part in (f"--{name}", str(value))]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if torch_side.main(words):
            raise SystemExit(1)
    return json.loads(said.getvalue())


def chat(folder, lines):
    """The answers to some lines, each as the first of a conversation."""
    answers = []
    for line in lines:
        before, sys.stdin = sys.stdin, io.StringIO(line + "\n")
        try:
            with contextlib.redirect_stdout(io.StringIO()) as said:
                torch_side.main(["chat", "--checkpoint", str(folder), "--greedy", "--tokens", "12"])
        finally:
            sys.stdin = before
        answers.append(said.getvalue().strip())
    return answers


# -- the report ---------------------------------------------------------------------------------------------------


def write(out, times, found, asked, said):
    """report.md and its picture; returns the path."""
    picture(out / "stages.png", found)
    last = {stage: log.read_rows(out / stage / log.NAME)[-1] for stage in STAGES}
    pairs = last["reward"]["val_accuracy"]
    facts = {
        "base": f"held-out loss {last['base']['val_loss']:.3f} nats a byte",
        "sft": right(found["sft"]),
        "reward": f"{pairs:.1%} of held-out pairs in the right order",
        "ppo": right(found["ppo"]),
        "grpo": right(found["grpo"]),
    }
    lines = ["# From nothing to a rewarded assistant", "", INTRODUCTION, ""]
    lines += ["| stage | steps | minutes | held-out |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {stage} | {last[stage]['step']} | {clock(times[stage])} | {facts[stage]} |" for stage in STAGES]
    lines += [f"| all | | {clock(sum(times.values()))} | |", ""]
    lines += ["![Right answers, stage by stage](stages.png)", "", "## What they say", ""]
    lines += ["| asked | " + " | ".join(POLICIES.values()) + " |", "| --- |" + " --- |" * len(POLICIES)]
    for place, line in enumerate(asked):
        lines.append(f"| `{line}` | " + " | ".join(f"`{said[stage][place]}`" for stage in POLICIES) + " |")
    lines += ["", "## How", "", "```sh"]
    for stage, (command, steps) in STAGES.items():
        lines.append(f"python -m torch_impl {command.replace('OUT', str(out))} --steps {last[stage]['step']} --out {out / stage}")
    lines += [f"python -m torch_impl chat --checkpoint {out}/grpo", "```", ""]
    for stage in STAGES:
        lines += [f"## {stage}", "", f"![{stage}]({stage}/training_curve.png)", ""]
    replace(out / "report.md", lambda file: file.write("\n".join(lines).encode()))
    return out / "report.md"


INTRODUCTION = (
    "One model of about 0.9 million parameters (preset showcase, bytes) learns to write from CPython's help texts, then to sort eight "
    "digits from 100 examples; a reward model learns from pairs of answers with more and with fewer mistakes; PPO follows the "
    "task's own checker and a tenth of that model's score, GRPO the checker alone. No held-out prompt has digits that a training prompt has, in any order."
)


def right(summary):
    return f"{summary['exact']:.1%} right, sampled {summary['pass@1']:.1%}"


def picture(path, found):
    """Right answers of each policy, greedy and sampled."""
    with canvas(path, figsize=(7, 3.2)) as figure:
        axes = figure.subplots()
        for shift, (name, words, colour) in enumerate((("exact", "greedy", RED), ("pass@1", "sampled", BLUE))):
            values = [100 * found[stage][name] for stage in POLICIES]
            bars = axes.bar([place + 0.38 * shift for place in range(len(values))], values, width=0.36, color=colour, label=words)
            axes.bar_label(bars, fmt="%.0f", color=QUIET, padding=2)
        axes.set_xticks([place + 0.19 for place in range(len(POLICIES))], POLICIES.values())
        axes.set(title="Eight digits sorted right, held-out prompts", ylabel="per cent", ylim=(0, 108))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper left", ncols=2)


if __name__ == "__main__":
    sys.exit(main())
