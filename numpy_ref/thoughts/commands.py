"""Units of thought at the command line: ``thoughts`` trains every arm of the experiment and writes its report.

python -m torch_impl thoughts --out runs/thoughts --seeds 3
"""

import dataclasses
import json
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref import checkpoint_file, log
from numpy_ref.commands import given, say, time_budget
from numpy_ref.config import TrainConfig, from_json, parameter_count
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.interrupt import Interrupted
from numpy_ref.progress import Progress
from numpy_ref.thoughts import pictures
from numpy_ref.thoughts.settings import ARMS, SEARCH, TRAINING, WIDTHS, ArmConfig, UnitConfig, require_plain

DEFINITION = "words for people: the wings compute"

NAME, REPORT, PICTURE, SEARCHES = "thoughts.json", "report.md", "accuracy.png", "search.png"
RESULTS = "results.jsonl"
PARTS = {"units": UnitConfig, "arms": ArmConfig, "train": TrainConfig}  # of NAME


def add(command, add_fields):
    """The parser of ``thoughts``; ``add_fields``: of `cli.py`."""
    parser = command("thoughts", "thoughts, pauses, codes or words between question and answer: train and compare", thoughts)
    parser.add_argument("--out", required=True, help="folder: a run folder for each arm and seed, report, picture")
    parser.add_argument("--resume", action="store_true", help="go on with the experiment in --out")
    parser.add_argument("--arm", action="append", choices=ARMS, help="train this arm, or with --resume only this one for now; may be repeated (all)")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop, save and report before they are over")
    add_fields(parser.add_argument_group("units"), UnitConfig, UnitConfig(), leave_out=("kind", "ways"))
    add_fields(parser.add_argument_group("arms"), ArmConfig, ArmConfig())
    add_fields(parser.add_argument_group("training"), TrainConfig, TRAINING)


def thoughts(wing, options):
    """Train the arms one after the other, or go on with that; at the end, or when stopped, report what there is."""
    start, seconds, out = perf_counter(), time_budget(options), Path(options.out)
    units, arms, train, names = _settings(options, out)
    chosen, stopped = [arm for arm in names if arm in getattr(options, "arm", names)], None
    for seed, arm in [(seed, arm) for seed in range(arms.seeds) for arm in chosen]:
        folder = run_folder(out, arm, seed)
        left = None if seconds is None else seconds - (perf_counter() - start)
        if not _finished(folder, train.steps):
            one = dataclasses.replace(train, seed=train.seed + seed)
            stopped = 0 if left is not None and left <= 0 else _train(wing, arm, units, arms, one, folder, left)
        if stopped is not None:
            break
    rows = results(out, names, units, arms, train)
    if rows:
        report(wing, out, rows, units, arms, train)
        print((out / REPORT).read_text(encoding="utf-8"))
    if stopped is not None:
        say(f"stopped before all arms were trained; go on with: python -m {wing.name} thoughts --resume --out {out}")
    return stopped


def run_folder(out, arm, seed):
    """Where an arm is trained."""
    return Path(out) / f"{arm.replace(' ', '-')}-{seed}"


def arm_settings(arm, units):
    """The UnitConfig of an arm."""
    return dataclasses.replace(units, kind=ARMS[arm], ways=2 if arm == SEARCH else 1)


def _settings(options, out):
    """(UnitConfig, ArmConfig, TrainConfig, names of arms) of a new experiment, which are then written down, or of one that
    goes on. Raises UserError where the options and the folder do not fit."""
    asked = {"units": given(options, UnitConfig), "arms": given(options, ArmConfig), "train": given(options, TrainConfig)}
    names = getattr(options, "arm", None)
    if getattr(options, "resume", False):
        try:
            had = json.loads((out / NAME).read_text(encoding="utf-8"))
            configs = (from_json(kind, json.dumps(had[part])) for part, kind in PARTS.items())
            found = *configs, [arm for arm in had["names"] if ARMS[arm]]
        except FileNotFoundError:
            raise UserError(f"{out} holds no {NAME} to go on with; leave out --resume to begin") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{out / NAME} is damaged; begin anew in another --out") from None
        for config, values in zip(found, asked.values()):
            for name, value in values.items():
                if (old := getattr(config, name)) != value:
                    raise UserError(f"the experiment in {out} has {name}={old!r}, not {value!r}; begin a new one for that")
        if names and not set(names) <= set(found[3]):
            raise UserError(f"the experiment in {out} has the arms {', '.join(found[3])}; begin a new one for others")
        return found
    if (out / NAME).exists():
        raise UserError(f"{out} already holds an experiment; go on with it by --resume, or take another --out")
    units, arms = UnitConfig(**asked["units"]), ArmConfig(**asked["arms"])
    train, names = dataclasses.replace(TRAINING, **asked["train"]), [arm for arm in ARMS if not names or arm in names]
    require_plain(arms.model(names[0], arm_settings(names[0], units)))
    found = {"units": units, "arms": arms, "train": train}
    text = json.dumps({part: dataclasses.asdict(value) for part, value in found.items()} | {"names": names}, indent=1)
    replace(out / NAME, lambda file: file.write((text + "\n").encode()))
    return units, arms, train, names


def _train(wing, arm, units, arms, train, folder, left):
    """Train one arm, or go on with it. Returns the exit status where it was stopped, else None."""
    settings = arm_settings(arm, units)
    model = arms.model(arm, settings)
    say(f"{arm}: {parameter_count(model):,} parameters, {train.steps} steps; run folder {folder}")
    progress = Progress(train.steps)
    try:
        resume = checkpoint_file.exists(folder)
        run = wing.train_units(model, train, settings, folder, resume=resume, report=progress, seconds=left)
    except Interrupted as stop:
        return stop.status
    finally:
        progress.close()
    return None if run.step == train.steps else 0


def _finished(folder, steps):
    rows = log.read_rows(folder / log.NAME)
    return bool(rows) and rows[-1]["step"] == steps and rows[-1].get("val_accuracy") is not None and checkpoint_file.exists(folder)


def results(out, names, units, arms, train):
    """{arm: {seed: rows with a held-out accuracy}} of what is finished."""
    found = {}
    for arm in names:
        folders = {seed: run_folder(out, arm, seed) for seed in range(arms.seeds)}
        rows = {seed: log.read_rows(folder / log.NAME) for seed, folder in folders.items() if _finished(folder, train.steps)}
        if rows:
            found[arm] = {seed: [row for row in some if row.get("val_accuracy") is not None] for seed, some in rows.items()}
    return found


def report(wing, out, rows, units, arms, train):
    """Write the tables, the pictures and the numbers of what is there."""
    compared = {arm: seeds for arm, seeds in rows.items() if arm != SEARCH}
    lines, guesses = ["# Units of thought", ""], {"chance": 1 / units.nodes, "the start": _on_short_cycles(units)}
    if compared:
        lines += [
            f"Problem: {units.nodes} nodes, each with an edge to one other; from a start, which node is {units.hops} edges away? "
            f"Chance is {guesses['chance']:.2f}. Whoever names the start itself is right in {guesses['the start']:.2f}: as often its "
            f"cycle's length divides {units.hops}. {train.steps} steps of {train.batch} new problems for each arm; mean of the seeds "
            "(lowest to highest) on 1,000 held-out problems.", "",
            "Between question and answer stand nothing (answer only), places that say nothing (pauses), hidden states of the model "
            "(thoughts), the nearest of a few vectors to them (codes) or the nodes on the way (written chain). The deeper model has "
            "as many layers as thoughts pass one after the other, and writes nothing; with removal it learns the written chain first, "
            "whose steps are taken away one by one.", "", *_table(compared, units, arms), "",
            f"![right answers]({PICTURE})", "", *_arm_searches(wing, out, compared, units),
        ]  # fmt: skip
        pictures.accuracies({arm: _curves(seeds) for arm, seeds in compared.items()}, guesses, out / PICTURE)
    if SEARCH in rows:
        lines += _search_report(wing, out, rows[SEARCH], units, train)
    replace(out / REPORT, lambda file: file.write(("\n".join(lines).rstrip() + "\n").encode()))
    lines = [{"arm": arm, "seed": seed, "rows": measured} for arm, seeds in rows.items() for seed, measured in seeds.items()]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    replace(out / RESULTS, lambda file: file.write(text.encode()))


def _on_short_cycles(units):
    """How often ``hops`` edges lead back: a node of a random permutation lies on cycles of all lengths equally often."""
    return sum(units.hops % length == 0 for length in range(1, units.nodes + 1)) / units.nodes


def _curves(seeds):
    return [([row["step"] for row in seed], [row["val_accuracy"] for row in seed]) for seed in seeds.values()]


def _table(rows, units, arms):
    """Lines of the table of all arms."""
    lines = [
        "| arm | parameters | places between | passes one after the other | seeds | right answers | steps read in the units |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, seeds in rows.items():
        settings = arm_settings(arm, units)
        model, places = arms.model(arm, settings), settings.units * settings.length
        passes = 1 + (places if settings.kind in ("thought", "code", "span") else 0)
        right = [row[-1]["val_accuracy"] for row in seeds.values()]
        read = [row[-1].get("val_read") for row in seeds.values()]
        lines.append(
            f"| {arm} | {parameter_count(model):,} | {places} | {passes} of {model.layers} layers | {len(seeds)} "
            f"| {_spread(right)} | {_spread(read) if None not in read else ''} |"
        )
    return lines


def _arm_searches(wing, out, rows, units):
    """Lines of a table: the first seed's models, decoded in three ways."""
    lines = ["Units chosen in other ways (first seed, 250 problems):", "", "| arm | greedy | beam of 4 | best of 8 |", "|---|---|---|---|"]
    for arm, seeds in rows.items():
        settings = arm_settings(arm, units)
        if settings.units:
            run = wing.load(run_folder(out, arm, min(seeds)))
            shares = wing.search_units(run.params, run.model_config, settings)
            lines.append(f"| {arm} | " + " | ".join("" if share is None else f"{share:.3f}" for share in shares.values()) + " |")
    return [*lines, ""] if len(lines) > 4 else []


def _search_report(wing, out, seeds, units, train):
    """Lines on the arm whose units leave a choice, and its picture."""
    settings, found = arm_settings(SEARCH, units), []
    for seed in seeds:
        run = wing.load(run_folder(out, SEARCH, seed))
        found.append(wing.search_widths(run.params, run.model_config, settings))
    widths = WIDTHS[: len(next(iter(found[0].values())))]
    lines = ["| chains tried | " + " | ".join(map(str, widths)) + " |", "|---" * (len(widths) + 1) + "|"]
    for way in found[0]:
        lines.append(f"| {way} | " + " | ".join(_spread(shares) for shares in zip(*(one[way] for one in found))) + " |")
    pictures.widths({way: [one[way] for one in found] for way in found[0]}, widths, out / SEARCHES)
    return [
        "## Decoding that chooses", "",
        f"Problem: two edges from each of {units.nodes} nodes; find a way from a start to a goal of exactly {units.hops} edges. The "
        "units are nodes in words. The model learns from one right chain for each graph, and from as many random ones to say "
        "whether a chain arrives: the log probability of that is its value. Which edge is right at a fork shows only some edges "
        f"later; {2 ** (units.hops - 1):,} chains of edges lead from a start to the last fork. {train.steps} steps of {train.batch}; "
        "share of 500 held-out graphs in which the chain that decoding returns arrives, by the graph. Of one chain tried, that of "
        "the beam is greedy, that of n is drawn. Mean of the seeds (lowest to highest).",
        "", *lines, "", f"![chains that arrive]({SEARCHES})", "",
    ]  # fmt: skip


def _spread(values):
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"
