"""The experiment: an auto-encoder, the concept models on its concepts, and how well each continues a story.

Everything random is a function of the seed and the step, so that a run that was stopped goes on as if it had not been.
A part that is being trained lies in the run folder as PART-SEED.npz with its optimiser.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.concepts.config import END, KINDS, parameter_count
from numpy_ref.concepts.sentences import to_text, to_tokens
from numpy_ref.concepts.settings import PARTS
from numpy_ref.concepts.stories import SENTENCES, draw_stories, judged, numbers_of
from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_STORIES, normal, permuted, uniform
from numpy_ref.training.schedules import learning_rate

DEFINITION = "the order of trainings, draws and files: the wings compute"

RESULTS, LOG = "results.jsonl", "log.jsonl"
LOG_EVERY = 20  # steps between rows of the log
PENALTY = 1.0  # of ridge regression
RIDGE_STORIES = 4096
EXAMPLES = 4  # stories whose continuations are kept
HELD_OUT = 1 << 40  # number of the first held-out story: no training comes so far
STREAMS = {"noise": 8, "times": 9, "keep": 10, "order": 11, "starts": 12, "judge": 13}  # beside STREAM_STORIES


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

    def placed(self, tree):
        """Arrays of NumPy as the wing's, in its format."""
        return self.functions["placed"](tree, self.device, self.functions["dtype"])

    def call(self, name, *arguments):
        """A function of the wing, without its vjp, if it has one."""
        value = self.functions[name](*arguments)
        return value[0] if isinstance(value, tuple) and len(value) == 2 and callable(value[1]) else value

    def numpy(self, value):
        return self.functions["to_numpy"](value)


def run(functions, settings, out, device, report, asked):
    """Train and judge everything that the run folder has not yet. Raises Stop once what was being trained is saved.

    ``report(seed, part, step, steps, loss, seconds)`` is called now and then; ``asked()``: see ``interruptible``.
    Returns all results, a dict for each seed and model.
    """
    for seed in range(settings.seeds):
        bench = Bench(functions, settings, seed, Path(out), device, report, asked)
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
    """``trained_space``, after the auto-encoder has been trained on all sentences, a half of them a step."""
    config, count = bench.settings.model("autoencoder"), len(SENTENCES)
    tokens, lengths = to_tokens(SENTENCES, config.length)

    def draw(step):
        order = permuted(np.arange(count), count, bench.seed, STREAM_STORIES + STREAMS["order"] + (step // 2 << 8))
        rows = order[: count // 2] if step % 2 == 0 else order[count // 2 :]
        noise = normal(bench.seed, STREAM_STORIES + STREAMS["noise"] + (step << 8), (len(rows), config.concept))
        return {"tokens": tokens[rows], "lengths": lengths[rows], "noise": noise}

    trained(bench, "autoencoder", draw)
    return trained_space(bench)


def trained_space(bench):
    """The auto-encoder of the run folder, its concepts of all sentences, their normaliser and codebooks; a dict."""
    config, count = bench.settings.model("autoencoder"), len(SENTENCES)
    params = load(bench, bench.out / f"autoencoder-{bench.seed}.npz")[1]
    tokens, lengths = to_tokens(SENTENCES, config.length)
    data = bench.placed((tokens, lengths))
    table = bench.call("encode_sentences", data[0][:, :-1], data[1], params, config)
    normaliser = bench.call("fit_normaliser", table)
    concepts = bench.call("normalise", table, normaliser)
    s = bench.settings
    starts = permuted(np.arange(count), count, bench.seed, STREAM_STORIES + STREAMS["starts"])
    starts = np.resize(starts, (s.codebooks, s.entries))
    return {
        "params": params, "tokens": tokens, "lengths": lengths, "table": bench.numpy(table), "normaliser": normaliser,
        "concepts": bench.numpy(concepts), "codebooks": bench.call("fit_codebooks", concepts, bench.placed(starts)),
    }  # fmt: skip


def _batches(bench, kind, space):
    """A function of the step: the batch that ``loss_and_grads`` takes."""
    s, config = bench.settings, bench.settings.model(kind)
    count = max(1, s.batch // 4) if kind == "decoder" else s.batch
    shape = count, s.sentences - 1

    def draw(step):
        ids = draw_stories(bench.seed, step * count, count, s.sentences)
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


# -- judging ------------------------------------------------------------------------------------------------------


def held_out(bench):
    """Ids of the held-out stories: (held_out, sentences)."""
    return draw_stories(bench.seed, HELD_OUT, bench.settings.held_out, bench.settings.sentences)


def predicted(bench, kind, params, space):
    """Concepts after the held-out stories, as they came from the auto-encoder: (held_out, c) of the wing."""
    stories, config = bench.placed(space["concepts"][held_out(bench)[:, :-1]]), bench.settings.model(kind)
    draws = bench.placed(draws_for(config, bench.seed, STREAM_STORIES + STREAMS["judge"], len(stories)))
    found = bench.call("next_concept", stories, params, config, draws, space["codebooks"])
    return bench.call("denormalise", found, space["normaliser"])


def draws_for(config, seed, stream, count):
    """The random numbers that ``next_concept`` takes for ``count`` stories; a kind with one answer does not look at them."""
    if config.kind == "diffusion":
        return normal(seed, stream, (count, *([config.samples] if config.eta else []), config.concept))
    return uniform(seed, stream, (count, config.codebooks))


def baselines(bench, space):
    """Predictions without a concept model, name -> (held_out, c)."""
    known, width = held_out(bench), bench.settings.concept
    many = draw_stories(bench.seed, HELD_OUT + len(known), RIDGE_STORIES, bench.settings.sentences)
    features, past = (bench.call("story_features", bench.placed(space["table"][ids[:, :-1]])) for ids in (known, many))
    weights = bench.call("fit_ridge", past, bench.placed(space["table"][many[:, -1]]), PENALTY)
    return {
        "the last sentence again": bench.numpy(features[:, :width]), "the mean of the story": bench.numpy(features[:, width : 2 * width]),
        "ridge regression": bench.numpy(features @ weights), "the sentence itself": space["table"][known[:, -1]],
    }  # fmt: skip


def judge(bench, space, name, prediction):
    """A row of results: how near the predictions are to what came, and what the decoder reads from them.

        l2            distance of prediction and right concept
        l2_read       distance of the right concept and that of the sentence which is read from the prediction
        readable      share of predictions that read as one of the sentences at all
        valid, information, top1      see `stories.py`; top1: exactly the sentence that came
        contrastive   see ``contrastive_accuracy``
    """
    config, stories = bench.settings.model("autoencoder"), held_out(bench)
    right, rows = space["table"][stories[:, -1]], stories[:, -1]
    placed = bench.placed(np.ascontiguousarray(prediction))
    said = bench.call("decode_sentences", placed, space["params"], config)
    tokens = bench.numpy(said)
    lengths = bench.placed(spoken_lengths(tokens))
    again = bench.numpy(bench.call("encode_sentences", said[:, :-1], lengths, space["params"], config))
    numbers = numbers_of(tokens)
    found = judged(numbers, stories[:, :-1], bench.seed)
    contrast = bench.numpy(bench.call("contrastive_accuracy", placed, *bench.placed((space["table"], rows))))
    return {
        "seed": bench.seed, "model": name, "l2": float(np.linalg.norm(prediction - right, axis=1).mean()),
        "l2_read": float(np.linalg.norm(again - right, axis=1).mean()), "readable": float((numbers >= 0).mean()),
        "valid": float(found["valid"].mean()), "information": float(found["information"].mean()),
        "top1": float((numbers == rows).mean()), "contrastive": float(contrast.mean()), "said": to_text(tokens[:EXAMPLES]),
        "past": [" ".join(SENTENCES[i] for i in story[-3:-1]) for story in stories[:EXAMPLES]],
    }  # fmt: skip


def spoken_lengths(tokens):
    """Bytes of what ``decode_sentences`` gave, at least 1: of a sentence that ends at once its END is read."""
    return np.maximum(1, np.argmax(tokens == END, axis=1))


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
