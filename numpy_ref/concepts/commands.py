"""Concept models at the command line: ``concepts`` trains and compares them, ``story`` goes on with a text.

    python -m torch_impl concepts --out runs/concepts
    python -m torch_impl story --run runs/concepts --model diffusion --prompt "The fox sings at dawn. A baker reads a map."
"""

import dataclasses
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref.commands import given, say, time_budget
from numpy_ref.concepts import experiment, report, settings
from numpy_ref.concepts.config import END, KINDS
from numpy_ref.concepts.sentences import split_sentences, to_text, to_tokens
from numpy_ref.concepts.settings import ExperimentConfig
from numpy_ref.errors import UserError
from numpy_ref.interrupt import TIME, interruptible
from numpy_ref.progress import clock
from numpy_ref.rng import STREAM_STORIES

DEFINITION = "words for people: the wings compute"

MODEL, SENTENCES = "diffusion", 4


def concepts(wing, options):
    """Train an auto-encoder and the concept models, compare them, write a report; or go on with such a run."""
    seconds, out, start = time_budget(options), Path(options.out), perf_counter()
    chosen = (_resumed if getattr(options, "resume", False) else _fresh)(options, out)
    device = wing.choose_device(chosen.device)
    steps = sum(chosen.training(part).steps for part in settings.PARTS)
    say(f"{steps} steps in {len(settings.PARTS)} parts, {chosen.seeds} times, on {device}; run folder {out}")
    lines = Lines()
    try:
        with interruptible(seconds) as asked:
            experiment.run(functions(wing), chosen, out, device, lines, asked)
    except experiment.Stop as stop:
        lines.close()
        again = f"python -m {wing.name} concepts --resume --out {out}"
        say(f"stopped in step {stop.step} of {stop.part} and saved; go on with: {again}")
        return None if stop.reason == TIME else 128 + stop.reason
    lines.close()
    print(report.write(out, chosen), end="")
    say(f"done in {clock(perf_counter() - start)}; {out / report.REPORT} has the table with examples and pictures")
    say(f"try: python -m {wing.name} story --run {out} --prompt \"The fox sings at dawn. A baker reads a map.\"")
    return None


def story(wing, options):
    """Go on with a text, sentence by sentence: sentences, concepts, the next concept, its sentence."""
    out, model = Path(options.run_folder), getattr(options, "model", MODEL)
    chosen = settings.read(out)
    count, seed = getattr(options, "sentences", SENTENCES), getattr(options, "seed", 0)
    if count < 1:
        raise UserError(f"--sentences {count} is not allowed; give at least 1")
    missing = [part for part in ("autoencoder", model) if not (out / f"{part}-0.npz").exists()]
    if missing:
        raise UserError(f"{out} has no trained {missing[0]} yet; go on with: python -m {wing.name} concepts --resume --out {out}")
    said = split_sentences(options.prompt)
    to_tokens(said, chosen.model("autoencoder").length)  # raises for sentences that are too long
    device = wing.choose_device(getattr(options, "device", "auto"))
    bench = experiment.Bench(functions(wing), chosen, 0, out, device, None, None)
    for sentence in continuation(bench, model, said, count, seed):
        print(sentence, flush=True)


def continuation(bench, kind, said, count, seed):
    """Yield the next ``count`` sentences by the model of a kind; each is encoded again before the one after it.

    Its bytes are, not its text: a model that has learnt little may say what is no UTF-8.
    """
    encoder, config = bench.settings.model("autoencoder"), bench.settings.model(kind)
    space, (tokens, lengths) = experiment.trained_space(bench), to_tokens(said, encoder.length)
    tokens = np.pad(tokens, ((0, 0), (0, encoder.length + 1 - tokens.shape[1])), constant_values=END)
    params = experiment.load(bench, bench.out / f"{kind}-{bench.seed}.npz")[1]
    for number in range(count):
        last = bench.placed((tokens[-config.context :, :-1], lengths[-config.context :]))
        concepts_ = bench.call("encode_sentences", *last, space["params"], encoder)
        known = bench.call("normalise", concepts_, space["normaliser"])[None]
        draws = bench.placed(experiment.draws_for(config, seed, STREAM_STORIES + 7 + (number << 8), 1))
        found = bench.call("next_concept", known, params, config, draws, space["codebooks"])
        found = bench.call("denormalise", found, space["normaliser"])
        spoken = bench.numpy(bench.call("decode_sentences", found, space["params"], encoder))
        yield to_text(spoken)[0]
        tokens, lengths = np.concatenate([tokens, spoken]), np.append(lengths, experiment.spoken_lengths(spoken))


def functions(wing):
    """The wing's functions by name, with those that turn arrays to NumPy's."""
    return wing.concepts | {"to_numpy": lambda value: wing.to_numpy(value) if hasattr(value, "dtype") else np.asarray(value)}


def _fresh(options, out):
    if (out / settings.NAME).exists():
        raise UserError(f"{out} already holds a run; go on with it by --resume, or take another --out")
    chosen = ExperimentConfig(**given(options, ExperimentConfig))
    out.mkdir(parents=True, exist_ok=True)
    settings.write(out, chosen)
    return chosen


def _resumed(options, out):
    chosen = settings.read(out)
    for name, value in given(options, ExperimentConfig).items():
        if name not in ("device", "seeds", "save_every") and value != getattr(chosen, name):
            raise UserError(f"the run in {out} has {name}={getattr(chosen, name)!r}, not {value!r}; start a new run for that")
    chosen = dataclasses.replace(chosen, **given(options, ExperimentConfig))
    settings.write(out, chosen)
    return chosen


class Lines:
    """What is being trained: one line that redraws itself on a terminal, elsewhere a line for each quarter."""

    def __init__(self, stream=None):
        self.stream, self.said, self.drawn = stream or sys.stderr, None, False

    def __call__(self, seed, part, step, steps, loss, seconds):
        text = f"seed {seed}  {part} {step}/{steps}  loss {loss:.3f}  {clock((steps - step) * seconds)} left"
        if self.stream.isatty():
            self.stream.write(f"\r{text}\x1b[K" + "\n" * (step == steps))
            self.drawn = step < steps
        elif (seed, part, 4 * step // steps) != self.said:
            self.said = seed, part, 4 * step // steps
            self.stream.write(text + "\n")
        self.stream.flush()

    def close(self):
        """Leave the redrawn line as it stands."""
        if self.drawn:
            self.stream.write("\n")
        self.drawn = False
