"""The command train: a run that is new, or that goes on."""

import dataclasses
from pathlib import Path
from time import perf_counter

from numpy_ref import checkpoint_file, dial, log
from numpy_ref.commands import FIXED, decoded, given, harmless, picture, prompt_tokens, say, stopped, time_budget
from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig, parameter_count
from numpy_ref.data.token_files import open_tokens
from numpy_ref.errors import UserError
from numpy_ref.event_file import EventFile
from numpy_ref.interrupt import Interrupted
from numpy_ref.presets import preset
from numpy_ref.progress import Progress, clock
from numpy_ref.tokenizer_commands import keep, of_training, tokens_of

DEFINITION = "words for people: the wings compute"


def train(wing, options):
    """Train, or go on with a run, on all processes. Ctrl-C, SIGTERM and the end of a time budget save first."""
    with wing.processes(getattr(options, "device", "auto")) as processes:
        return train_together(wing, options, processes)


def train_together(wing, options, processes):
    """``train`` on one of the ``processes``; what is not the first writes no file (see ``processes.py``)."""
    start, seconds = perf_counter(), time_budget(options)
    out, resume = Path(options.out), getattr(options, "resume", False)
    wing = of_training(wing, options, out, resume)
    model, settings = resumed(out, options) if resume else fresh(out, options, wing.vocabulary)
    device = wing.choose_device(settings.device)
    dtype = str(wing.choose_dtype(settings.dtype, device, model)).removeprefix("torch.")
    dtype = dtype if settings.dtype == "auto" else settings.dtype
    dataset = processes.first(
        lambda: training_data(wing, out, options, resume, settings.pack_documents),
        lambda: open_tokens(out / "data", check=False),  # the first has checked them
    )
    if processes.rank == 0:
        keep(wing, out)
    if hasattr(options, "depth") and not resume:
        settings = dial.limited(model, settings, len(dataset.train), given(options, TrainConfig))
        speed = wing.product_speed(device, wing.choose_dtype(settings.dtype, device, model))
        say(dial.estimate(model, settings, len(dataset.train), speed))
    together = f" x {processes.world}" if processes.world > 1 else ""
    facts = f"{parameter_count(model):,} parameters, {dtype} on {device}{together}, {settings.steps} steps"
    say(f"{facts}; run folder {out}")
    report = Progress(settings.steps)
    if hasattr(options, "tensorboard") and processes.rank == 0:
        report = EventFile(out, report)
    left = None if seconds is None else seconds - (perf_counter() - start)
    sample = sampler(wing, settings, out, report) if settings.sample_every else None
    try:
        run = wing.train(model, settings, dataset, out, resume=resume, report=report, seconds=left, sample=sample)
    except Interrupted as stop:
        report.note(stopped(wing, stop, out))
        return stop.status
    finally:
        report.close()
        if processes.rank == 0:
            picture(out)
    if run.step < settings.steps:
        say(f"the time budget of {seconds:g} s ends: {stopped(wing, run, out)}")
        return
    held_out = next((row["val_loss"] for row in reversed(log.read_rows(out / log.NAME)) if row.get("val_loss")), None)
    measured = "" if held_out is None else f"; held-out loss {held_out:.3f} nats per token"
    say(f"done: {run.step} of {settings.steps} steps in {clock(run.seconds)}{measured}")
    if run.best and run.best["step"] < run.step:
        best = checkpoint_file.of_step(out, run.best["step"])
        say(f"best: held-out loss {run.best['val_loss']:.3f} at step {run.best['step']}, {best}")
    say(f"try: python -m {wing.name} generate --checkpoint {out} --prompt 'The future of'")


def sampler(wing, settings, out, report):
    """A function of a Run that shows a sample above the bar and adds it to samples.txt."""
    tokens = prompt_tokens(wing, settings.sample_prompt)

    def sample(run):
        chosen = SampleConfig(tokens=80, temperature=0.8, seed=run.step)
        rows = wing.generate(run.params, run.model_config, [tokens], chosen)
        words = settings.sample_prompt + decoded(wing, rows[0])
        report.note(f"step {run.step}: {harmless(words)}")
        try:
            with open(out / "samples.txt", "a", encoding="utf-8", errors="replace") as file:
                file.write(f"--- step {run.step}\n{words}\n")
        except OSError as error:
            report.note(f"samples.txt: {error.strerror}; training goes on")

    return sample


def fresh(out, options, vocabulary=None):
    """(ModelConfig, TrainConfig) of a new run: preset or depth with the options on top. Refuses to overwrite a run.

    The model's vocabulary is the tokenizer's, unless a larger one is asked for.
    """
    if not hasattr(options, "data"):
        raise UserError("--data is missing; give samples, pydoc, stdlib, a text file or a folder (or --resume a run)")
    if checkpoint_file.exists(out):
        raise UserError(f"{out} already holds a run; go on with it by --resume, or take another --out")
    if hasattr(options, "depth") and hasattr(options, "preset"):
        raise UserError("--depth and --preset were both given; each of them chooses the whole model")
    if hasattr(options, "depth"):
        model, settings = dial.settings(options.depth)
    else:
        model, settings = preset(getattr(options, "preset", "showcase"))
    sized = {"vocab_size": len(vocabulary)} if vocabulary else {}
    model = dataclasses.replace(model, **sized | given(options, ModelConfig))
    if model.output != "tokens":
        raise UserError("--output reward is not for `train`: a reward model learns from comparisons, by the command `reward`")
    if vocabulary and model.vocab_size < len(vocabulary):
        raise UserError(f"vocab_size={model.vocab_size} is too small: the tokenizer has {len(vocabulary)} tokens")
    if model.vocab_size < 256:
        raise UserError(f"vocab_size={model.vocab_size} is too small: text is read as bytes, which are 256 tokens")
    return model, dataclasses.replace(settings, **given(options, TrainConfig))


def resumed(out, options):
    """(ModelConfig, TrainConfig) of the run in ``out`` with the given training options on top."""
    header = checkpoint_file.read_header(out)
    if header.get("quantization"):
        raise UserError(f"the model in {out} is quantised: it can generate, but not train; resume the original")
    model, settings = checkpoint_file.configs(header)
    asked = given(options, ModelConfig) | {name: v for name, v in given(options, TrainConfig).items() if name in FIXED}
    if hasattr(options, "preset"):
        asked = dataclasses.asdict(preset(options.preset)[0]) | asked
    had = dataclasses.asdict(model) | dataclasses.asdict(settings)
    for name, value in asked.items():
        if value != had[name]:
            raise UserError(f"the run in {out} has {name}={had[name]!r}, not {value!r}; start a new run for that")
    return model, dataclasses.replace(settings, **given(options, TrainConfig))


def training_data(wing, out, options, resume, packed=False):
    """The run's tokens in ``out/data``: prepared from --data, or those that a resumed run began with."""
    folder = out / "data"
    if not resume:
        return tokens_of(wing, options.data, folder)
    dataset = open_tokens(folder)
    source = dataset.header["source"]
    if getattr(options, "data", source) != source:
        raise UserError(f"the run in {out} began with --data {source}; leave --data out to go on with it")
    if packed and dataset.train_borders is None:
        raise UserError(f"the data in {folder} does not say where documents end; start a new run to pack them")
    return dataset
