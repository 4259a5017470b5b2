"""``hyperbolic``: the experiment of `hyperbolic/embedding_experiment.py` at the command line, with progress, resume and
a report."""

import dataclasses
import json
from pathlib import Path
from time import perf_counter

from numpy_ref.commands import say, time_budget
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.hyperbolic import embedding_report
from numpy_ref.hyperbolic.embedding_arms import DTYPES, GEOMETRIES, LOSSES, SIZES, Settings, arms, check_size
from numpy_ref.hyperbolic.embedding_experiment import Embedding, points
from numpy_ref.hyperbolic.graphs import graph
from numpy_ref.progress import clock

DEFINITION = "words and files: the wings compute"

HEADER, RESULTS, STATES = "hyperbolic.json", "results.jsonl", "states"
SAVE_EVERY, LOOK_EVERY = 30.0, 20  # seconds; steps


def add(command, add_fields):
    """Add the command; ``command(name, help, run)`` makes a parser."""
    parser = command("hyperbolic", "embed a tree in hyperbolic and Euclidean space, and a graph that is none", run)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the report, its pictures and its numbers")
    parser.add_argument("--resume", action="store_true", help="go on with the experiment in --out")
    parser.add_argument("--size", choices=SIZES, help="settings that other options change (cpu)")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="save and stop before they are over")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where to compute (auto)")
    parser.add_argument("--dtype", choices=DTYPES, help="number format; auto is float32 (auto)")
    add_fields(parser, Settings, SIZES["cpu"])


def run(wing, options):
    """Embed every arm that is not done, one after the other, and write the report."""
    out, began, seconds = Path(options.out), perf_counter(), time_budget(options) or float("inf")
    settings, graphs = _begin(out, options)
    done, every = _results(out), list(arms(settings))
    about = "; ".join(f"{part}: {known.name}, {len(known):,} nodes, {len(known.edges):,} edges" for part, known in graphs.items())
    say(f"{about}; {len(every)} embeddings of {settings.steps} steps, {len(done)} done")
    where = {"device": getattr(options, "device", "auto"), "dtype": getattr(options, "dtype", "auto")}
    for number, arm in enumerate(every, 1):
        if any(all(row[name] == getattr(arm, name) for name in ("part", "geometry", "loss", "dim", "seed")) for row in done):
            continue
        known = graphs[arm.part]
        embedding = Embedding(arm, known, settings, wing.graph_trainer(known, arm, settings, **where))
        path = out / STATES / f"{arm.name}.npz"
        embedding.restore(path)
        if not _until_done(embedding, path, lambda: perf_counter() - began > seconds - 1):
            say(f"saved; go on with: python -m {wing.name} hyperbolic --resume --out {out}")
            return
        done.append(embedding.result())
        with open(out / RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(done[-1]) + "\n")
        words = f"[{number}/{len(every)}] {known.name}, {LOSSES[arm.loss]}, {GEOMETRIES[arm.geometry]}, {arm.dim}d, seed {arm.seed}: "
        measured = f"MAP {done[-1]['map']:.3f}, distortion {done[-1]['distortion']:.3f}; "
        spent = sum(row["seconds"] for row in done) / len(done)
        say(f"{words}{measured}{clock(spent * (len(every) - len(done)))} left")
    header = {"about": about[0].upper() + about[1:] + ".", "names": {part: known.name for part, known in graphs.items()}}
    header["settings"] = dataclasses.asdict(settings) | header["names"]
    for path in embedding_report.write(out, header, done, (graphs["graph"], _drawn(out, every))):
        say(f"wrote {path}")
    for row in embedding_report.averages(done):
        print(f"{row['map']:.3f}  {row['distortion']:.3f}  {header['names'][row['part']]} {row['loss']} {row['geometry']} {row['dim']}")


def _begin(out, options):
    """(Settings, {"graph", "control": Graph}) of a new experiment, or of the one in ``out`` that goes on."""
    path, names = out / HEADER, {field.name for field in dataclasses.fields(Settings)}
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    if getattr(options, "resume", False):
        if not path.is_file():
            raise UserError(f"there is no experiment in {out}; leave --resume out to begin one")
        asked = sorted([*given, *(["size"] if hasattr(options, "size") else [])])
        if asked:
            raise UserError(f"{', '.join(asked)} can't change in an experiment that goes on; begin a new one")
        try:
            settings = Settings(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise UserError(f"{path} is damaged; begin a new experiment in another folder") from None
        return settings, _graphs(settings)
    if path.exists():
        raise UserError(f"{out} already holds an experiment; go on with it by --resume, or take another --out")
    settings = dataclasses.replace(SIZES[getattr(options, "size", "cpu")], **given)
    graphs = _graphs(settings)  # raises for what is no tree before anything is written
    replace(path, lambda file: file.write(json.dumps(dataclasses.asdict(settings), indent=1).encode()))
    return settings, graphs


def _graphs(settings):
    found = {"graph": graph(settings.graph, settings.below)}
    if settings.control != "none":
        found["control"] = graph(settings.control)
    for known in found.values():
        check_size(settings, len(known), known.name)
    return found


def _results(out):
    path = out / RESULTS
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    except ValueError:
        raise UserError(f"{path} is damaged; delete its last line, or begin anew in another folder") from None


def _until_done(embedding, path, over):
    """Train an embedding to its end: True; save it and return False when the time is over."""
    saved = perf_counter()
    while not embedding.finished:
        embedding.step()
        if embedding.done % LOOK_EVERY == 0:
            if over() and not embedding.finished:
                embedding.save(path)
                return False
            if perf_counter() - saved > SAVE_EVERY:
                embedding.save(path)
                saved = perf_counter()
    embedding.save(path)
    return True


def _drawn(out, every):
    """{(space, loss): points} of the first seed's embeddings of the graph in two dimensions."""
    flat = [arm for arm in every if (arm.part, arm.dim, arm.seed) == ("graph", 2, 0)]
    found = {(arm.geometry, arm.loss): points(out / STATES / f"{arm.name}.npz") for arm in flat}
    return {key: value for key, value in found.items() if value is not None}
