"""Does fine-tuning work, and what helps? ``python -m bench.finetuning`` trains small models on tasks with known answers.

    base        a model of CPython's help texts, which has never seen a question
    masking     sorting six digits: prompts count nothing, a tenth, or as much as answers in the loss
    curricula   sorting 2 to 8 digits, hardest last, first, or in no order: equal steps, equal examples

Three seeds each: a seed draws the examples, their order and the rows of the new tokens. Held-out prompts have digits
that no training prompt has, in any order. Results go to a folder: results.json, report.md, two pictures. A run that is
there is not trained again; so it goes on where it was stopped.
"""

import argparse
import dataclasses
import json
import math
import statistics
import sys
from pathlib import Path
from time import perf_counter

import torch

from bench import environment
from numpy_ref import checkpoint_file
from numpy_ref.config import TrainConfig, parameter_count
from numpy_ref.data import instructions
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.files import replace
from numpy_ref.presets import preset
from numpy_ref.progress import Progress
from numpy_ref.sft import conversations, report
from numpy_ref.sft.settings import TRAINING, SFTConfig
from numpy_ref.tasks.builtin import find
from numpy_ref.tasks.task import examples
from numpy_ref.tokenizer_commands import with_chat
from torch_impl.__main__ import WING
from torch_impl.sft.loop import fine_tune, model_weights
from torch_impl.training import checkpoint
from torch_impl.training.loop import train

SEEDS = (0, 1, 2)
CHAT = ChatFormat(256)
BASE_STEPS = 400
ASKED = 500  # held-out prompts of a figure; on the way a third of them is asked
MASKING = {"prompts count 0": 0.0, "prompts count 0.1": 0.1, "prompts count 1": 1.0}
CURRICULA = ("random", "length", "anti", "competence", "self-paced")
DIGITS = range(2, 9)


def main(argv=None):
    """Train what is not there yet, write the report; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.finetuning", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results/finetuning"), help="folder of the report")
    parser.add_argument("--work", type=Path, default=Path("runs/finetuning"), help="folder of the runs")
    parser.add_argument("--only", choices=("masking", "curricula"), help="one of the two experiments")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    options = parser.parse_args(argv)
    base = base_model(options.work / "base")
    found = {
        "environment": environment.describe("cpu"),
        "base": {"parameters": parameter_count(base.model_config), "steps": base.step},
    }
    kinds = {"masking": MASKING, "curricula": CURRICULA}
    jobs = [(kind, name, seed) for kind, names in kinds.items() for seed in SEEDS[: options.seeds] for name in names]
    jobs = [job for job in jobs if options.only in (None, job[0])]
    for number, (kind, name, seed) in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {kind}: {name}, seed {seed}", file=sys.stderr, flush=True)
        found.setdefault(kind, {}).setdefault(name, []).append(run(options.work, base, kind, name, seed))
    write(options.out, found)
    return 0


def base_model(folder):
    """The Run that fine-tuning begins with."""
    from numpy_ref.data.token_files import prepare
    from torch_impl.tokenizers.byte import encode

    if not finished(folder, BASE_STEPS):
        model, settings = preset("llama-1m")
        model = dataclasses.replace(
            model, layers=2, width=64, heads=4, feed_forward=192, context=64, embedding_scale=math.sqrt(64)
        )
        settings = dataclasses.replace(
            settings, steps=BASE_STEPS, lr=4e-3, warmup=20, optimizer="adamw", device="cpu", eval_every=0, save_every=0
        )
        print("the base model", file=sys.stderr, flush=True)
        train(model, settings, prepare("pydoc", folder / "data", encode, "uint8"), folder, report=Progress(BASE_STEPS))
    return checkpoint.load(folder, "float32")


def finished(folder, steps):
    """Whether a run of so many steps is there and was not stopped before its end."""
    return checkpoint_file.exists(folder) and checkpoint_file.read_header(folder)["step"] == steps


def settings_of(kind, name, seed):
    """(TrainConfig, SFTConfig) of a run."""
    shared = TrainConfig(
        **dataclasses.asdict(TRAINING)
        | {"seed": seed, "device": "cpu", "dtype": "float32", "save_every": 0, "batch": 64}
    )
    if kind == "masking":
        train_config = dataclasses.replace(shared, steps=400, lr=3e-3, eval_every=100, sample_every=50)
        return train_config, SFTConfig(prompt_weight=MASKING[name])
    train_config = dataclasses.replace(shared, steps=250, lr=3e-3, eval_every=100, sample_every=50)
    return train_config, SFTConfig(curriculum=name, measure_every=50)


def sorting(side, digits, count, seed):
    """Examples of sorting so many digits, which know how hard they are."""
    found = examples(find(f"sort-{digits}"), side, count, seed)
    return [
        dataclasses.replace(instructions.of(one.prompt, one.answer, f"sort-{digits}"), difficulty=float(digits))
        for one in found
    ]


def data_of(kind, seed):
    """(training Examples, {name of a figure: held-out Examples})."""
    if kind == "masking":
        return sorting("train", 6, 5000, seed), {"six digits": sorting("held_out", 6, ASKED, 0)}
    # Few numbers of 2 or 3 digits exist: each length has as many examples as there are, at most 700.
    most = {2: 80, 3: 600}
    training = [one for digits in DIGITS for one in sorting("train", digits, most.get(digits, 700), seed)]
    held_out = {f"{digits} digits": sorting("held_out", digits, 100, 0) for digits in DIGITS if digits > 3}
    return training, held_out


def folder_of(work, kind, name, seed):
    """Where a run is kept."""
    return work / kind / f"{name.replace(' ', '-')}-{seed}"


def run(work, base, kind, name, seed):
    """The figures of a run, trained now unless its result is there: {"curve": [...], "end": {...}, ...}."""
    folder = folder_of(work, kind, name, seed)
    path = folder / "result.json"
    if path.exists():
        return json.loads(path.read_text())
    train_config, sft_config = settings_of(kind, name, seed)
    training, held_out = data_of(kind, seed)
    model = dataclasses.replace(base.model_config, vocab_size=CHAT.vocab_size)
    arguments = CHAT, WING.encode, model.context
    data = conversations.tokenized([training], *arguments, sft_config.prompt_weight)
    golden = [(figure, one) for figure, group in held_out.items() for one in group]
    wing, curve, start = with_chat(WING, CHAT), [], perf_counter()

    def measure(run):
        current = dataclasses.replace(run, params=model_weights(run), frozen=None)
        asked = golden if run.step == train_config.steps else golden[::3]
        rows, summary = report.judged(wing, current, [one for _, one in asked], batch=256)
        point = {"step": run.step, "all": summary["exact"], "nats": math.log(summary["perplexity"])}
        for figure in held_out:
            point[figure] = statistics.mean(row["exact"] for row, (own, _) in zip(rows, asked) if own == figure)
        curve.append(point)
        return rows

    first = dataclasses.replace(train_config, steps=1, lr=1e-12, warmup=0, eval_every=0, sample_every=0)
    untouched = fine_tune(model, first, sft_config, data, data, base.params, folder / "before")
    measure(dataclasses.replace(untouched, step=0))
    folder.mkdir(parents=True, exist_ok=True)
    judging = conversations.tokenized([[one for _, one in golden]], *arguments)
    trained = fine_tune(
        model,
        train_config,
        sft_config,
        data,
        judging,
        base.params,
        folder,
        report=Progress(train_config.steps),
        sample=measure,
    )
    found = {"curve": curve, "end": curve[-1], "examples": len(data), "seconds": round(perf_counter() - start, 1)}
    found |= {"steps": train_config.steps, "batch": train_config.batch, "lr": train_config.lr, "tokens": trained.tokens}
    replace(path, lambda file: file.write(json.dumps(found).encode()))
    print(
        f"    exact match {curve[0]['all']:.1%} -> {curve[-1]['all']:.1%} in {found['seconds']:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return found


# -- the report ---------------------------------------------------------------------------------------------------


def write(out, found):
    """results.json, pictures and report.md in the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    replace(out / "results.json", lambda file: file.write((json.dumps(found, indent=1) + "\n").encode()))
    text = ["# Fine-tuning that works", "", words(found)]
    for kind, title in (("masking", "Sorting six digits"), ("curricula", "Orders of learning: sorting 2 to 8 digits")):
        if kind in found:
            picture(out / f"{kind}.png", found[kind], title)
            text += ["", f"## {title}", "", TEXTS[kind], "", table(found[kind]), "", f"![{title}]({kind}.png)"]
    replace(out / "report.md", lambda file: file.write(("\n".join(text) + "\n").encode()))
    print(out / "report.md")


TEXTS = {
    "masking": "Trained on 5,000 examples; exact match, end included, of greedy answers to 500 held-out prompts. With weight on "
    "the prompt the model also learns to write the questions, which are random digits.",
    "curricula": "Equal steps and batches over the same 4,180 examples of all lengths; greedy exact match, end included, on 100 "
    "held-out prompts of each length from 4 to 8. random: shuffled epochs. length: every epoch from short to long. anti: from "
    "long to short; both show one length for many batches on end, and stop in the fourth epoch. competence: drawn from the shortest share, which grows with the root of the step up to half of the run. "
    "self-paced: the same with a straight line, ranked by the model's own loss, measured every 50 steps.",
}


def words(found):
    base, torch_version = found["base"], torch.__version__.partition("+")[0]
    return (
        f"The base has {base['parameters']:,} parameters and {base['steps']} steps on CPython's help texts behind it (bytes; 2 layers "
        f"of width 64, the architecture of Llama). Float32, PyTorch {torch_version}, {found['environment'].get('cpu', 'CPU')}. Three seeds a row: each draws its own "
        "examples, order and new rows of the vocabulary. Written by `python -m bench.finetuning`."
    )


def table(kind):
    """Exact match before and after, of every seed."""
    figures = [name for name in next(iter(kind.values()))[0]["end"] if name not in ("step", "nats", "all")]
    several = len(figures) > 1
    lines = [["", "before", "after (seeds)", "mean", *(figures if several else []), "nats per gold token", "steps"]]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    for name, runs in kind.items():
        ends = [run["end"] for run in runs]
        line = [
            name,
            f"{max(run['curve'][0]['all'] for run in runs):.1%}",
            ", ".join(f"{end['all']:.1%}" for end in ends),
        ]
        line.append(f"**{statistics.mean(end['all'] for end in ends):.1%}**")
        line += [f"{statistics.mean(end[figure] for end in ends):.0%}" for figure in figures] if several else []
        lines.append([*line, f"{statistics.mean(end['nats'] for end in ends):.3f}", runs[0]["steps"]])
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def picture(path, kind, title):
    """Exact match over steps: the mean of the seeds thick, each seed thin."""
    from numpy_ref.plots import canvas
    from numpy_ref.run_plots import COLOURS, DASHES

    with canvas(path, figsize=(8, 4.6)) as figure:
        axes = figure.subplots()
        for number, (name, runs) in enumerate(kind.items()):
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
            steps = [point["step"] for point in runs[0]["curve"]]
            curves = [[100 * point["all"] for point in run["curve"]] for run in runs]
            for curve in curves:
                axes.plot(steps, curve, color=colour, linewidth=0.7, alpha=0.4)
            mean = [statistics.mean(values) for values in zip(*curves)]
            axes.plot(
                steps,
                mean,
                color=colour,
                linewidth=2,
                dashes=dash if dash[0] else (),
                label=f"{name}: {mean[-1]:.1f} %",
            )
        axes.set(title=f"{title}: held-out exact match", ylabel="per cent", xlabel="optimiser step", ylim=(-2, 102))
        axes.legend(loc="upper left")  # where nobody can anything yet


if __name__ == "__main__":
    sys.exit(main())
