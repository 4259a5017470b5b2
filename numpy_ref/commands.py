"""The commands of the command line; ``wing`` (see ``cli.Wing``) computes, this file talks."""

import contextlib
import dataclasses
import json
import sys
import tempfile
import unicodedata
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref import checkpoint_file, log, plots
from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig, parameter_count, preset
from numpy_ref.data.token_files import open_tokens, prepare
from numpy_ref.errors import UserError
from numpy_ref.inspect import describe, text
from numpy_ref.interrupt import Interrupted
from numpy_ref.progress import Progress, clock, counter

DEFINITION = "words for people: the wings compute"

# What a resumed run can't change: the weights, or the order of the data, would no longer be those it began with.
FIXED = ("optimizer", "seed")


def say(*words):
    """Print to stderr: stdout is for results."""
    print(*words, file=sys.stderr, flush=True)


def given(options, kind):
    """The fields of the dataclass ``kind`` that the command line sets."""
    names = (field.name for field in dataclasses.fields(kind))
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def train(wing, options):
    """Train, or go on with a run. Ctrl-C saves first."""
    out, resume = Path(options.out), getattr(options, "resume", False)
    model, settings = resumed(out, options) if resume else fresh(out, options)
    device = wing.choose_device(settings.device)
    dtype = str(wing.choose_dtype(settings.dtype, device, model)).removeprefix("torch.")
    dataset = training_data(wing, out, options, resume)
    say(f"{parameter_count(model):,} parameters, {dtype} on {device}, {settings.steps} steps; run folder {out}")
    report = Progress(settings.steps)
    try:
        run = wing.train(model, settings, dataset, out, resume=resume, report=report)
    except Interrupted as stop:
        report.note(stopped(wing, stop, out))
        return 130
    finally:
        report.close()
        picture(out)
    held_out = next((row["val_loss"] for row in reversed(log.read_rows(out / log.NAME)) if "val_loss" in row), None)
    measured = "" if held_out is None else f"; held-out loss {held_out:.3f} nats per token"
    say(f"done: {run.step} of {settings.steps} steps in {clock(run.seconds)}{measured}")
    say(f"try: python -m {wing.name} generate --checkpoint {out} --prompt 'The future of'")


def stopped(wing, stop, out):
    """What to say after Ctrl-C."""
    return f"stopped after step {stop.step} and saved; go on with: python -m {wing.name} train --resume --out {out}"


def fresh(out, options):
    """(ModelConfig, TrainConfig) of a new run: the preset with the options on top. Refuses to overwrite a run."""
    if not hasattr(options, "data"):
        raise UserError("--data is missing; give samples, pydoc, stdlib, a text file or a folder (or --resume a run)")
    if (out / checkpoint_file.NAME).exists():
        raise UserError(f"{out} already holds a run; go on with it by --resume, or take another --out")
    model, settings = preset(getattr(options, "preset", "showcase"))
    model = dataclasses.replace(model, **given(options, ModelConfig))
    if model.vocab_size < 256:
        raise UserError(f"vocab_size={model.vocab_size} is too small: text is read as bytes, which are 256 tokens")
    return model, dataclasses.replace(settings, **given(options, TrainConfig))


def resumed(out, options):
    """(ModelConfig, TrainConfig) of the run in ``out`` with the given training options on top."""
    model, settings = checkpoint_file.configs(checkpoint_file.read(out)[1])
    asked = given(options, ModelConfig) | {name: v for name, v in given(options, TrainConfig).items() if name in FIXED}
    if hasattr(options, "preset"):
        asked = dataclasses.asdict(preset(options.preset)[0]) | asked
    had = dataclasses.asdict(model) | dataclasses.asdict(settings)
    for name, value in asked.items():
        if value != had[name]:
            raise UserError(f"the run in {out} has {name}={had[name]!r}, not {value!r}; start a new run for that")
    return model, dataclasses.replace(settings, **given(options, TrainConfig))


def training_data(wing, out, options, resume):
    """The run's tokens in ``out/data``: prepared from --data, or those that a resumed run began with."""
    folder = out / "data"
    if not resume:
        return prepare(options.data, folder, wing.encode, np.uint8, progress=counter(f"reading {options.data}"))
    dataset = open_tokens(folder)
    source = dataset.header["source"]
    if getattr(options, "data", source) != source:
        raise UserError(f"the run in {out} began with --data {source}; leave --data out to go on with it")
    return dataset


def picture(out):
    """Draw the training curve from the log, if it has rows. No run fails for want of a picture."""
    rows, path = log.read_rows(out / log.NAME), out / "training_curve.png"
    try:
        if rows:
            plots.training_curve(rows, path, title=f"Training of {out}")
    except OSError as error:
        say(f"{path} could not be drawn: {error.strerror or error}")


def opened(wing, options):
    """The Run of --checkpoint on --device."""
    run = wing.load(options.checkpoint, device=wing.choose_device(getattr(options, "device", "auto")))
    number = parameter_count(run.model_config)
    say(f"{options.checkpoint}: {number:,} parameters, {run.step} steps, trained by {run.wing}")
    return run


def generate(wing, options):
    """Continue every --prompt; a single one streams to a terminal."""
    sample = SampleConfig(**given(options, SampleConfig))
    prompts = [prompt_tokens(wing, prompt) for prompt in options.prompt]
    run = opened(wing, options)
    streams = len(prompts) == 1 and sys.stdout.isatty()
    writer = Stream(wing) if streams else None
    if streams:
        writer.write(options.prompt[0])
    start = perf_counter()
    rows = wing.generate(run.params, run.model_config, prompts, sample, on_token=writer and writer.push)
    seconds = perf_counter() - start
    if streams:
        writer.finish()
    else:
        texts = [prompt + decoded(wing, row) for prompt, row in zip(options.prompt, rows)]
        sys.stdout.write("\n\n".join(texts) + "\n")
    total = sum(len(row) for row in rows)
    say(f"{total} tokens in {seconds:.1f} s ({total / seconds:,.0f} tokens/s)")


def prompt_tokens(wing, prompt):
    """The tokens of a prompt. Raises UserError for an empty one."""
    if not prompt:
        raise UserError("the prompt is empty; give at least one character to go on with")
    return wing.encode(prompt)


def decoded(wing, tokens):
    """The text of some tokens; bytes that are no UTF-8 show as a replacement character."""
    decoder = wing.decoder()
    return "".join(decoder.push(int(token)) for token in tokens) + decoder.finish()


def harmless(words):
    """The words with replacement characters for control characters, which could move a terminal's cursor or worse."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in words)


class Stream:
    """Writes tokens to stdout as they come, whole characters at a time."""

    def __init__(self, wing):
        self.decoder, self.said, self.terminal = wing.decoder(), [], sys.stdout.isatty()

    def write(self, words):
        self.said.append(words)
        sys.stdout.write(harmless(words) if self.terminal else words)
        sys.stdout.flush()

    def push(self, row, token):
        self.write(self.decoder.push(int(token)))

    def finish(self):
        """End the line; returns all that was written before."""
        self.write(self.decoder.finish())
        said = "".join(self.said)
        self.write("\n")
        return said


def evaluate(wing, options):
    """Loss, perplexity and bits per byte on the held-out part of a corpus, or on the part trained on."""
    part = getattr(options, "split", "validation")
    run = opened(wing, options)
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepare(options.data, folder, wing.encode, np.uint8, progress=counter(f"reading {options.data}"))
        tokens, per_token = dataset.side(part)
        result = wing.evaluate(run.params, run.model_config, tokens, run.train_config.batch, bytes_per_token=per_token)
    result = {name: int(value) if name == "tokens" else float(value) for name, value in result.items()}
    if hasattr(options, "json"):
        print(json.dumps(result | {"data": options.data, "split": part}))
        return
    print(f"{part} part of {options.data}: {result['tokens']:,} tokens")
    print(f"loss           {result['loss']:.4f} nats per token")
    print(f"perplexity     {result['perplexity']:.4f}")
    print(f"bits per byte  {result['bits_per_byte']:.4f}")


def inspect(wing, options):
    """The module tree, parameters, FLOPs and memory of a preset or a checkpoint."""
    if hasattr(options, "preset"):
        model, settings = preset(options.preset)
    else:
        model, settings = checkpoint_file.configs(checkpoint_file.read(options.checkpoint)[1])
    facts = describe(model, settings)
    print(json.dumps(facts) if hasattr(options, "json") else text(facts))


def chat(wing, options):
    """Go on with what is typed, line by line. The model sees the whole conversation, as far as its context reaches."""
    sample = SampleConfig(**given(options, SampleConfig))
    run = opened(wing, options)
    say("The model goes on with what you type. /reset forgets, Ctrl-C stops an answer, Ctrl-D leaves.")
    before = ""
    for turn, line in enumerate(typed()):
        if line.strip() == "/reset":
            before = ""
            say("forgotten")
        elif line:
            try:
                tokens = prompt_tokens(wing, before + line)[-run.model_config.context :]
            except UserError as error:
                say(f"error: {error}")
                continue
            draws = dataclasses.replace(sample, seed=sample.seed + turn)  # the same words twice may get two answers
            writer = Stream(wing)
            with contextlib.suppress(KeyboardInterrupt):
                wing.generate(run.params, run.model_config, [tokens], draws, on_token=writer.push)
            before += line + writer.finish() + "\n"


def typed():
    """Lines from a person, or from a pipe."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  history and arrow keys

    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            say("\nCtrl-D leaves")
        except EOFError:
            say()
            return
