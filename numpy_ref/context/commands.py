"""Words in context at the command line: ``context`` trains all models on pseudo-words of a text and writes a report.

python -m torch_impl context --data pydoc --out runs/context
"""

import dataclasses
import json
import math
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref.commands import given, say, time_budget
from numpy_ref.config import TrainConfig
from numpy_ref.context import pictures
from numpy_ref.context.config import KINDS, ContextConfig, parameter_count
from numpy_ref.context.words import pseudo_words
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.interrupt import interruptible

DEFINITION = "words for people: the wings compute"

NAME, RESULTS, REPORT, PICTURE = "context.json", "results.jsonl", "report.md", "accuracy.png"
SEEDS = 3
MODELS = """What a word's vector is made of:

- **static**: the vector of the id alone. Both words share it, so this model can only learn which of the two is commoner.
- **bag**: the mean of the words before, mixed in by a gate.
- **gate**: attention over the words before, mixed in by a gate.
- **film**: attention over the words before, which scales and shifts the vector (FiLM).
- **plain**: a transformer block as large as *gate*.

**Information**: what a guess says about the word, the mutual information within each pair, on average over places; a model that
always guesses the commoner word has 0. It is estimated from counts, which makes it a little too large where pairs are rare.
**Loss**: held-out cross-entropy; 0.693 is that of a coin. No model sees the word's future: the tests prove it."""
TRAINING = TrainConfig(steps=600, batch=128, lr=3e-3, warmup=30, eval_every=150)
TRAINED = ("steps", "batch", "lr", "warmup", "final_lr", "schedule", "weight_decay", "clip", "eval_every", "seed", "device")


def add(command, add_fields):
    """The parser of ``context``; ``add_fields``: of `cli.py`."""
    parser = command("context", "which of two words stood here? static vectors, bags and attention over the past compared", context)
    parser.add_argument("--out", required=True, help="folder: results, report, picture")
    parser.add_argument("--data", metavar="SOURCE", help="text as of `train` (pydoc)")
    parser.add_argument("--resume", action="store_true", help="go on with the experiment in --out")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"how often each model is trained ({SEEDS})")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="begin no further model after they are over")
    add_fields(parser.add_argument_group("words and models"), ContextConfig, ContextConfig(), leave_out=("kind",))
    left_out = [field.name for field in dataclasses.fields(TrainConfig) if field.name not in TRAINED]
    add_fields(parser.add_argument_group("training"), TrainConfig, TRAINING, leave_out=left_out)


def context(wing, options):
    """Train every model with every seed, or those that a stopped experiment lacks; report what there is."""
    start, seconds, out = perf_counter(), time_budget(options), Path(options.out)
    source, config, train, seeds = _settings(options, out)
    learnt, judged, words = pseudo_words(source, config)
    say(f"{source}: {len(learnt):,} places to learn from, {len(judged):,} held out; {config.pairs} pseudo-words; {out}")
    done = {(row["kind"], row["seed"]) for row in read(out)}
    wanted = [(kind, seed) for seed in range(seeds) for kind in KINDS]
    status = None
    with interruptible() as asked:
        for kind, seed in wanted:
            if (kind, seed) in done:
                continue
            if (stop := asked()) or seconds is not None and perf_counter() - start > seconds:
                status = 128 + stop if stop else 0
                break
            begun = perf_counter()
            one = dataclasses.replace(train, seed=train.seed + seed)
            _, rows = wing.train_senses(dataclasses.replace(config, kind=kind), one, learnt, judged, _teller(kind, seed, train))
            _keep(out, {"kind": kind, "seed": seed, "seconds": round(perf_counter() - begun, 2), "rows": rows})
    found = read(out)
    if found:
        report(out, found, words, source, config, train, (len(learnt), len(judged)))
        print((out / REPORT).read_text(encoding="utf-8"))
    if len(found) < len(wanted):
        say(f"{len(found)} of {len(wanted)} models are trained; go on with: python -m {wing.name} context --resume --out {out}")
    return status


def _teller(kind, seed, train):
    return lambda row: say(
        f"{kind}, seed {seed}: step {row['step']}/{train.steps}  held-out loss {row['loss']:.3f}  right {row['accuracy']:.3f}"
    )


def _settings(options, out):
    """(source, ContextConfig, TrainConfig, seeds) of a new experiment, written down, or of one that goes on."""
    asked = {"source": getattr(options, "data", "pydoc"), "seeds": getattr(options, "seeds", SEEDS)}
    given_config, given_train = given(options, ContextConfig), given(options, TrainConfig)
    if getattr(options, "resume", False):
        try:
            had = json.loads((out / NAME).read_text(encoding="utf-8"))
            found = had["source"], ContextConfig(**had["config"]), TrainConfig(**had["train"]), had["seeds"]
        except FileNotFoundError:
            raise UserError(f"{out} holds no {NAME} to go on with; leave out --resume to begin") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{out / NAME} is damaged; begin anew in another --out") from None
        new = {name: value for name, value in asked.items() if hasattr(options, "data" if name == "source" else name)}
        for name, value in (new | given_config | given_train).items():
            before = (had | had["config"] | had["train"])[name]
            if before != value:
                raise UserError(f"the experiment in {out} has {name}={before!r}, not {value!r}; begin a new one for that")
        return found
    if (out / NAME).exists():
        raise UserError(f"{out} already holds an experiment; go on with it by --resume, or take another --out")
    if asked["seeds"] < 1:
        raise UserError(f"--seeds {asked['seeds']} is not allowed; give a whole number of at least 1")
    config, train = ContextConfig(**given_config), dataclasses.replace(TRAINING, **given_train)
    for kind in KINDS:
        dataclasses.replace(config, kind=kind)  # what one of the models can't be is said before any is trained
    text = json.dumps(asked | {"config": dataclasses.asdict(config), "train": dataclasses.asdict(train)}, indent=1)
    replace(out / NAME, lambda file: file.write((text + "\n").encode()))
    return asked["source"], config, train, asked["seeds"]


def read(out):
    """The rows of results.jsonl, one for each trained model; lines that were cut off are left out."""
    try:
        lines = (Path(out) / RESULTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _keep(out, row):
    """One more line of results.jsonl; NaN, of pairs that do not occur, becomes null."""
    for measures in row["rows"]:
        measures["by_pair"] = [None if math.isnan(value) else value for value in measures["by_pair"]]
    text = "".join(json.dumps(one) + "\n" for one in [*read(out), row])
    replace(out / RESULTS, lambda file: file.write(text.encode()))


def report(out, found, words, source, config, train, sizes):
    """Table and picture of what is there, in the order of ``KINDS``."""
    results = {kind: [row["rows"][-1] for row in found if row["kind"] == kind] for kind in KINDS}
    results = {kind: rows for kind, rows in results.items() if rows}
    lines = ["| model | parameters without words | seeds | right guesses | information, nats (most: 0.693) | loss, nats |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for kind, rows in results.items():
        number = parameter_count(dataclasses.replace(config, kind=kind), embedding=False)
        values = (_spread([row[name] for row in rows]) for name in ("accuracy", "information", "loss"))
        lines.append(f"| {kind} | {number:,} | {len(rows)} | " + " | ".join(values) + " |")
    text = "\n".join([
        "# Words in context", "",
        f"{config.pairs} pseudo-words of {source}, each two words of about equal frequency under one id: {sizes[0]:,} places to "
        f"learn from, {sizes[1]:,} in held-out documents. A model sees the {config.span} words before and has to say which word "
        f"stood there. {train.steps} steps of {train.batch}; mean of the seeds (lowest to highest).", "", MODELS, "", *lines, "",
        f"![right guesses]({PICTURE})",
    ])  # fmt: skip
    replace(out / REPORT, lambda file: file.write((text + "\n").encode()))
    pictures.comparison(results, words, out / PICTURE)


def _spread(values):
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"
