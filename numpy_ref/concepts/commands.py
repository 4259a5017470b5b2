"""Concept models at the command line: ``concepts`` trains and compares them, ``story`` goes on with a text.

    python -m torch_impl concepts --out runs/concepts
    python -m torch_impl story --run runs/concepts --model diffusion --prompt "The fox sings at dawn. A baker reads a map."
"""

import dataclasses
import shlex
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref.commands import given, say, time_budget
from numpy_ref.concepts import experiment, report, settings
from numpy_ref.concepts.config import END
from numpy_ref.concepts.judge import draws_for, spoken_lengths
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
    world = experiment.worlds(chosen)  # raises for a text that can't be read, before there is a run folder
    if chosen.data:
        say(_read(chosen, world(0)))
    out.mkdir(parents=True, exist_ok=True)
    settings.write(out, chosen)
    device = wing.choose_device(chosen.device)
    steps = sum(chosen.training(part).steps for part in settings.PARTS)
    often = f"with {chosen.seeds} seeds, " if chosen.seeds > 1 else ""
    say(f"{steps} steps in {len(settings.PARTS)} parts, {often}on {device}; run folder {out}")
    lines = Lines()
    try:
        with interruptible(seconds) as asked:
            experiment.run(functions(wing), chosen, out, device, lines, asked, world)
    except experiment.Stop as stop:
        lines.close()
        again = f"python -m {wing.name} concepts --resume --out {out}"
        say(f"stopped in step {stop.step} of {stop.part} and saved; go on with: {again}")
        return None if stop.reason == TIME else 128 + stop.reason
    lines.close()
    print(report.write(out, chosen), end="")
    say(f"done in {clock(perf_counter() - start)}; {out / report.REPORT} has the table with examples and pictures")
    example = " ".join(world(0).sentences[:2]) if chosen.data else "The fox sings at dawn. A baker reads a map."
    say(f"try: python -m {wing.name} story --run {out} --prompt {shlex.quote(example)}")
    return None


def story(wing, options):
    """Go on with a text, sentence by sentence: sentences, concepts, the next concept, its sentence."""
    out, model = Path(options.run_folder), getattr(options, "model", MODEL)
    chosen = settings.read(out)
    count, seed = getattr(options, "sentences", SENTENCES), getattr(options, "seed", 0)
    if count < 1:
        raise UserError(f"--sentences {count} is not allowed; give at least 1")
    missing = [part for part in ("autoencoder", "space", model) if not (out / f"{part}-0.npz").exists()]
    if missing:
        raise UserError(f"{out} has no trained {missing[0]} yet; go on with: python -m {wing.name} concepts --resume --out {out}")
    said = split_sentences(options.prompt)
    to_tokens(said, chosen.model("autoencoder").length)  # raises for sentences that are too long
    device = wing.choose_device(getattr(options, "device", "auto"))
    bench = experiment.Bench(functions(wing), chosen, 0, out, device, None, None)
    for sentence, again in read_back(bench, said):
        say(f"{sentence!r} is read as {again!r}: the auto-encoder has not learnt such sentences")
    for sentence in continuation(bench, model, said, count, seed):
        print(sentence, flush=True)


def read_back(bench, said):
    """Of the sentences of a prompt those that the decoder does not read from their concepts: [(sentence, what it reads)]."""
    encoder, (tokens, lengths) = bench.settings.model("autoencoder"), bench.placed(to_tokens(said, bench.settings.length))
    params = experiment.trained_space(bench)["params"]
    concepts_ = bench.call("encode_sentences", tokens[:, :-1], lengths, params, encoder)
    again = to_text(bench.numpy(bench.call("decode_sentences", concepts_, params, encoder)))
    return [pair for pair in zip(said, again, strict=True) if pair[0] != pair[1]]


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
        draws = bench.placed(draws_for(config, seed, STREAM_STORIES + 7 + (number << 8), 1))
        found = bench.call("next_concept", known, params, config, draws, space["codebooks"])
        found = bench.call("denormalise", found, space["normaliser"])
        spoken = bench.numpy(bench.call("decode_sentences", found, space["params"], encoder))
        yield to_text(spoken)[0]
        tokens, lengths = np.concatenate([tokens, spoken]), np.append(lengths, spoken_lengths(spoken))


def functions(wing):
    """The wing's functions by name, with those that turn arrays to NumPy's."""
    return wing.concepts | {"to_numpy": lambda value: wing.to_numpy(value) if hasattr(value, "dtype") else np.asarray(value)}


def _fresh(options, out):
    if (out / settings.NAME).exists():
        raise UserError(f"{out} already holds a run; go on with it by --resume, or take another --out")
    return ExperimentConfig(**given(options, ExperimentConfig))


def _resumed(options, out):
    chosen = settings.read(out)
    for name, value in given(options, ExperimentConfig).items():
        if name not in ("device", "seeds", "save_every") and value != getattr(chosen, name):
            raise UserError(f"the run in {out} has {name}={getattr(chosen, name)!r}, not {value!r}; start a new run for that")
    return dataclasses.replace(chosen, **given(options, ExperimentConfig))


def _read(chosen, text):
    left_out = f"; {text.long:,} of more than {chosen.length} bytes left out (--length)" if text.long else ""
    return (
        f"{chosen.data}: {len(text.sentences):,} different sentences{left_out}; {len(text.stories_):,} stories to learn from, "
        f"{len(text.held):,} held out"
    )


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
