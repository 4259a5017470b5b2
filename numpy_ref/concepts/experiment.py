"""The experiment: an auto-encoder, the concept models on its concepts, and how well each continues a story.

Everything random is a function of the seed and the step, so that a run that was stopped goes on as if it had not been.
A part that is being trained lies in the run folder as PART-SEED.npz with its optimiser.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.concepts.config import KINDS, parameter_count
from numpy_ref.concepts.judge import baselines, judge, predicted
from numpy_ref.concepts.sentences import digest, to_tokens
from numpy_ref.concepts.settings import PARTS
from numpy_ref.concepts.stories import SENTENCES, Grammar
from numpy_ref.concepts.texts import read_text
from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_STORIES, normal, permuted, uniform
from numpy_ref.training.schedules import learning_rate

DEFINITION = "the order of trainings, draws and files: the wings compute"

RESULTS, LOG = "results.jsonl", "log.jsonl"
LOG_EVERY = 20  # steps between rows of the log
FITTED = 4096  # sentences at most that normaliser and codebooks are fitted to
ENCODED = 1024  # sentences at once
STREAMS = {"noise": 8, "times": 9, "keep": 10, "order": 11, "starts": 12}  # beside STREAM_STORIES


class Stop(Exception):
    """A part was stopped and saved; ``reason`` is what ``interruptible`` gave."""

    def __init__(self, part, step, reason):
        super().__init__(part)
        self.part, self.step, self.reason = part, step, reason


@dataclass(eq=False)
class Bench:
    """What every part of one seed needs. ``functions``: those of a wing (`cli.py`)."""

    functions: dict
    settings: Any
    seed: int
    out: Path
    device: Any
    report: Any
    asked: Any
    world: Any = None  # Grammar or Text: the sentences, and stories of them

    def placed(self, tree):
        """Arrays of NumPy as the wing's, in its format."""
        return self.functions["placed"](tree, self.device, self.functions["dtype"])

    def call(self, name, *arguments):
        """A function of the wing, without its vjp, if it has one."""
        value = self.functions[name](*arguments)
        return value[0] if isinstance(value, tuple) and len(value) == 2 and callable(value[1]) else value

    def numpy(self, value):
        return self.functions["to_numpy"](value)


def worlds(settings):
    """A function of the seed: the Grammar, or the Text that ``settings.data`` names. Raises UserError for a bad one."""
    if not settings.data:
        longest = max(map(len, SENTENCES))
        if settings.length < longest:
            raise UserError(f"length={settings.length} is too short for the stories of the grammar; give at least {longest}, or --data")
        return lambda seed: Grammar(seed, settings.sentences)
    text = read_text(settings.data, settings.length, settings.sentences)
    return lambda seed: replace(text, seed=seed)


def run(functions, settings, out, device, report, asked, world=None):
    """Train and judge everything that the run folder has not yet. Raises Stop once what was being trained is saved.

    world: what ``worlds`` gives, if it is there already.
    ``report(seed, part, step, steps, loss, seconds)`` is called now and then; ``asked()``: see ``interruptible``.
    Returns all results, a dict for each seed and model.
    """
    world = world or worlds(settings)
    for seed in range(settings.seeds):
        bench = Bench(functions, settings, seed, Path(out), device, report, asked, world(seed))
        done = {row["model"] for row in read_rows(bench.out / RESULTS) if row["seed"] == seed}
        if not done.issuperset(KINDS):
            _seed(bench, done)
    return read_rows(bench.out / RESULTS)


def _seed(bench, done):
    """All parts of one seed, and their results."""
    space = concept_space(bench)
    if "the sentence itself" not in done:
        for name, prediction in baselines(bench, space).items():
            _add(bench.out / RESULTS, judge(bench, space, name, prediction))
    for kind in KINDS:
        if kind not in done:
            start = perf_counter()
            params = trained(bench, kind, _batches(bench, kind, space), _frozen(bench, kind, space))
            seconds = perf_counter() - start
            prediction = bench.numpy(predicted(bench, kind, params, space))
            row = judge(bench, space, kind, prediction)
            _add(bench.out / RESULTS, row | {"parameters": parameter_count(bench.settings.model(kind)), "seconds": seconds})


def concept_space(bench):
    """The auto-encoder, trained, and what it makes of all sentences: ``trained_space`` with their "tokens", "lengths",
    concepts as they are ("table") and normalised ("concepts"), which are NumPy arrays."""
    config, world = bench.settings.model("autoencoder"), bench.world
    tokens, lengths = to_tokens(world.sentences, config.length)
    size = min(max(1, world.learnt // 2), bench.settings.autoencoder_batch)
    passes = world.learnt // size  # steps to see all sentences once

    def draw(step):
        order = permuted(np.arange(world.learnt), world.learnt, bench.seed, STREAM_STORIES + STREAMS["order"] + (step // passes << 8))
        rows = order[step % passes * size :][:size]
        noise = normal(bench.seed, STREAM_STORIES + STREAMS["noise"] + (step << 8), (len(rows), config.concept))
        return {"tokens": tokens[rows], "lengths": lengths[rows], "noise": noise}

    params = trained(bench, "autoencoder", draw)
    parts = [slice(start, start + ENCODED) for start in range(0, len(tokens), ENCODED)]
    encoded = (bench.call("encode_sentences", *bench.placed((tokens[part, :-1], lengths[part])), params, config) for part in parts)
    table = np.concatenate([bench.numpy(part) for part in encoded])
    if not _space_path(bench).exists():
        _fit_space(bench, table[: world.learnt])
    space = trained_space(bench)
    concepts = bench.numpy(bench.call("normalise", bench.placed(table), space["normaliser"]))
    return space | {"tokens": tokens, "lengths": lengths, "table": table, "concepts": concepts}


def _fit_space(bench, table):
    """Fit normaliser and codebooks to concepts, and keep them."""
    s, count = bench.settings, min(len(table), FITTED)
    order = permuted(np.arange(len(table)), len(table), bench.seed, STREAM_STORIES + STREAMS["starts"])
    data = bench.placed(table if count == len(table) else table[np.sort(order[:count])])
    normaliser = bench.call("fit_normaliser", data)
    starts = np.resize(order if count == len(table) else np.arange(count), (s.codebooks, s.entries))
    codebooks = bench.call("fit_codebooks", bench.call("normalise", data, normaliser), bench.placed(starts))
    arrays = {name: bench.numpy(value) for name, value in (normaliser | {"codebooks": codebooks}).items()}
    checkpoint_file.write(_space_path(bench), arrays, {"sentences": digest(bench.world.sentences)})


def trained_space(bench):
    """The auto-encoder of the run folder ("params"), the "normaliser" and the "codebooks" of its concepts; a dict.

    Raises UserError where the sentences are others than those they were fitted to."""
    arrays, header = checkpoint_file.unsealed(_space_path(bench))
    if bench.world is not None and header.get("sentences") != digest(bench.world.sentences):
        raise UserError(f"the text {bench.settings.data!r} has changed since the run began; begin a new one in another folder")
    arrays = {name: bench.placed(value) for name, value in arrays.items()}
    params = load(bench, bench.out / f"autoencoder-{bench.seed}.npz")[1]
    return {"params": params, "codebooks": arrays.pop("codebooks"), "normaliser": arrays}


def _space_path(bench):
    return bench.out / f"space-{bench.seed}.npz"


def _batches(bench, kind, space):
    """A function of the step: the batch that ``loss_and_grads`` takes."""
    s, config = bench.settings, bench.settings.model(kind)
    count = max(1, s.batch // 4) if kind == "decoder" else s.batch
    shape = count, s.sentences - 1

    def draw(step):
        ids = bench.world.stories(step * count, count)
        batch = {"concepts": space["concepts"][ids]}
        if kind == "decoder":
            batch |= {"tokens": space["tokens"][ids[:, 1:]], "lengths": space["lengths"][ids[:, 1:]]}
        if kind == "diffusion":
            stream = {name: STREAM_STORIES + number + (step << 8) for name, number in STREAMS.items()}
            batch["noise"] = normal(bench.seed, stream["noise"], (*shape, s.concept))
            u = uniform(bench.seed, stream["times"], shape)  # little noise says what the concept is: no need of a context
            batch["times"] = noise_steps(u, config)
            batch["keep"] = uniform(bench.seed, stream["keep"], shape) >= config.drop
        return batch

    return draw


def noise_steps(u, config):
    """Steps of noise for uniform numbers, those with much noise oftener (``lean``); the last one where 1 - (1 - u)^lean
    rounds to 1."""
    return np.minimum((1 - (1 - u) ** config.lean) * config.steps, config.steps - 1).astype(np.int64)


def _frozen(bench, kind, space):
    if kind == "decoder":
        return space["params"], bench.settings.model("autoencoder"), space["normaliser"]
    return space["codebooks"] if kind in ("quantised", "residual") else None


def trained(bench, part, draw, frozen=None):
    """The weights of a part after all its steps, from the run folder as far as they are there."""
    config, train = bench.settings.model(part), bench.settings.training(part)
    path = bench.out / f"{part}-{bench.seed}.npz"
    if path.exists():
        step, params, states = load(bench, path)
    else:
        params = bench.functions["initialise"](config, bench.seed + 1000 * PARTS.index(part), bench.functions["dtype"])
        step, params = 0, bench.placed(params)
        states = bench.functions["init_states"](params, train)
    start, first = perf_counter(), step
    while step < train.steps:
        batch = bench.placed(draw(step))
        if part == "autoencoder":
            found = bench.functions["autoencoder_loss_and_grads"](params, **batch, config=config)
        else:
            found = bench.functions["loss_and_grads"](params, batch, config, frozen)
        loss, grads = found
        norm, params, states = bench.functions["descend"](params, grads, states, learning_rate(step, train), train)
        step += 1
        if step % LOG_EVERY == 0 or step == train.steps:
            row = {"seed": bench.seed, "part": part, "step": step, "loss": float(loss), "grad_norm": float(norm)}
            _add(bench.out / LOG, row)
            bench.report(bench.seed, part, step, train.steps, float(loss), (perf_counter() - start) / (step - first))
        reason = bench.asked()
        if reason is not None or step % bench.settings.save_every == 0 or step == train.steps:
            save(bench, path, step, params, states)
        if reason is not None:
            raise Stop(part, step, reason)
    return params


def save(bench, path, step, params, states):
    """Write a part with its optimiser, in one step."""
    arrays = {f"model/{name}": bench.numpy(value) for name, value in params.items()}
    for name, state in states.items():
        arrays |= {f"optimizer/{name}/{field}": np.asarray(bench.numpy(value)) for field, value in state.items()}
    checkpoint_file.write(path, arrays, {"step": step})


def load(bench, path):
    """(step, params, states) of a file that ``save`` wrote. Raises UserError for a damaged one."""
    arrays, header = checkpoint_file.unsealed(path)
    params, states = {}, {}
    for key, value in arrays.items():
        kind, _, name = key.partition("/")
        if kind == "model":
            params[name] = bench.placed(value)
        else:
            name, _, field = name.rpartition("/")
            states.setdefault(name, {})[field] = bench.placed(value) if value.ndim else value.item()
    if type(header.get("step")) is not int or set(params) != set(states):
        raise UserError(f"{path} is no part of such a run; begin a new one in another folder")
    return header["step"], params, states


def read_rows(path):
    """The rows of a file of JSON lines; a line cut off by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _add(path, row):
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
