"""Fine-tuning at the command line: ``sft`` trains on instructions, ``answers`` judges, ``adapt`` applies adapters.

python -m torch_impl sft --checkpoint runs/mine --data talk.jsonl --out runs/talk
python -m torch_impl answers --checkpoint runs/talk --data questions.jsonl --out runs/talk/answers.jsonl
"""

import dataclasses
import json
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref import checkpoint_file, log
from numpy_ref.cli_options import add_checkpoint, add_dtype, add_fields
from numpy_ref.commands import FIXED, given, opened, picture, say, stopped, time_budget, whole
from numpy_ref.config import SampleConfig, TrainConfig, from_json, parameter_count
from numpy_ref.data import instructions
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.interrupt import Interrupted
from numpy_ref.progress import Progress, clock
from numpy_ref.sft import adapter_file, adapters, conversations, report
from numpy_ref.sft.settings import TRAINING, SFTConfig
from numpy_ref.tokenizer_commands import keep, speaking, with_chat

DEFINITION = "words for people: the wings compute"

NAME = "sft.json"  # what a run was begun with
ANSWERS = "answers.jsonl"
ASKED = ("data", "held_out", "examples", "held_out_examples")  # options that choose the conversations
JUDGED = 200  # held-out examples that are answered at the end


def sft(wing, options):
    """Fine-tune a model on conversations, or go on with such a run; at the end its answers are judged."""
    with wing.processes(getattr(options, "device", "auto")) as processes:
        if processes.world > 1:
            raise UserError("fine-tuning runs in one process; start it without torchrun")
        start, seconds, out = perf_counter(), time_budget(options), Path(options.out)
        for name in ("examples", "held_out_examples"):
            whole(options, name, 1)
        judged = whole(options, "judge", 0)
        resume = getattr(options, "resume", False)
        wing, model, train, settings, asked, base = (_resumed if resume else _fresh)(wing, options, out)
        data, held_out, golden = _conversations(wing, model, settings, train.seed, asked)
        if resume:
            _check_same(asked, data, out)
        else:
            keep(wing, out)
            _note(out, settings, asked, data)
        facts = f"{len(data):,} conversations, {len(held_out):,} held out; {train.steps} steps of {train.batch}"
        say(f"{_trained(model, settings)}; {facts}; run folder {out}")
        progress = Progress(train.steps)
        left = None if seconds is None else seconds - (perf_counter() - start)
        sample = _sampler(wing, golden, progress) if train.sample_every else None
        try:
            run = wing.fine_tune(
                model,
                train,
                settings,
                data,
                held_out,
                base,
                out,
                resume=resume,
                report=progress,
                seconds=left,
                sample=sample,
            )
        except Interrupted as stop:
            progress.note(stopped(wing, stop, out).replace("train --resume", "sft --resume"))
            return stop.status
        finally:
            progress.close()
            picture(out)
        if run.frozen:
            adapter_file.write(out / adapter_file.NAME, run, wing.to_numpy)
        if run.step < train.steps:
            say(
                f"the time budget of {seconds:g} s ends: {stopped(wing, run, out).replace('train --resume', 'sft --resume')}"
            )
            return None
        held = next((row["val_loss"] for row in reversed(log.read_rows(out / log.NAME)) if row.get("val_loss")), None)
        measured = "" if held is None else f"; held-out loss {held:.3f} nats per token"
        say(f"done: {run.step} of {train.steps} steps in {clock(run.seconds)}{measured}")
        _judge(wing, out, golden, JUDGED if judged is None else judged, train.device)
        say(f"try: python -m {wing.name} chat --checkpoint {out}")


def answers(wing, options):
    """Answer the prompts of some conversations and judge the answers against the gold ones."""
    run = opened(wing, options)
    if not wing.chat:
        raise UserError(f"{options.checkpoint} knows no chat format; give a model that `sft` has fine-tuned")
    limit, samples = whole(options, "limit", 1), whole(options, "samples", 0) or 0
    seed, side, found = getattr(options, "seed", 0), getattr(options, "side", "held_out"), []
    for source in options.data:
        found += conversations.examples(source, limit, seed, side)
    sample, start = SampleConfig(**given(options, SampleConfig)), perf_counter()
    found = found[: limit or JUDGED]
    rows, summary = report.judged(wing, run, found, sample, samples, getattr(options, "tokens", None))
    if hasattr(options, "out"):
        report.write(options.out, rows)
    print(json.dumps(summary) if hasattr(options, "json") else report.table(rows, summary))
    say(
        f"{len(rows)} prompts answered in {perf_counter() - start:.1f} s"
        + (f"; {options.out}" if hasattr(options, "out") else "")
    )


def adapt(wing, options):
    """Write a model with adapters merged into it: the one that they were trained on, and what they add."""
    out = Path(options.out)
    if checkpoint_file.exists(out):
        raise UserError(f"{out} already holds a model; take another --out")
    params, model, lora, seed = adapter_file.read(options.adapters)
    run = opened(wing, options)
    _check_plain(run, options.checkpoint)
    adapter_file.check_fits(run.model_config, model, options.adapters)
    weights = wing.widen_vocabulary(run.params, model.vocab_size, seed)
    run.params = wing.merge(weights, {name: wing.from_numpy(value) for name, value in params.items()}, model, lora)
    run.model_config, run.states = model, {name: {} for name in run.params}
    wing.save(out, run)
    checkpoint_file.describe(out, model, run.train_config)
    keep(with_chat(wing, _format(wing)), out)
    say(
        f"wrote {out}: {sum(np.size(value) for value in params.values()):,} trained numbers merged into {parameter_count(model):,}"
    )


def _fresh(wing, options, out):
    """(wing, ModelConfig, TrainConfig, SFTConfig, what was asked for, base params) of a new run."""
    for name in ("checkpoint", "data"):
        if not hasattr(options, name):
            raise UserError(
                f"--{name} is missing; give a model and conversations to fine-tune it on (or --resume a run)"
            )
    if checkpoint_file.exists(out):
        raise UserError(f"{out} already holds a run; go on with it by --resume, or take another --out")
    run = opened(wing, options)
    _check_plain(run, options.checkpoint)
    wing = with_chat(wing, _format(wing))
    model = dataclasses.replace(run.model_config, vocab_size=max(run.model_config.vocab_size, wing.chat.vocab_size))
    train = dataclasses.replace(TRAINING, **given(options, TrainConfig))
    asked = {name: getattr(options, name) for name in ASKED if hasattr(options, name)} | {
        "checkpoint": str(options.checkpoint)
    }
    return wing, model, train, SFTConfig(**given(options, SFTConfig)), asked, run.params


def _check_plain(run, path):
    if any(checkpoint_file.is_quantized(value) for value in run.params.values()):
        raise UserError(f"the model in {path} is quantised: it can generate, but not train; give the original")


def _format(wing):
    """The chat format of a model: its own, or one above its tokenizer's vocabulary."""
    return wing.chat or ChatFormat(len(wing.vocabulary) if wing.vocabulary else 256)


def _resumed(wing, options, out):
    """The same of the run in ``out``, with the given training options on top; no base."""
    header = checkpoint_file.read_header(out)
    try:
        found = json.loads((out / NAME).read_text(encoding="utf-8"))
        settings, asked = (
            from_json(SFTConfig, json.dumps(found["settings"])),
            found["asked"] | {"fingerprint": found["fingerprint"]},
        )
    except FileNotFoundError:
        raise UserError(
            f"{out} is no run of `sft`: it has no {NAME}; go on with it by the command that began it"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{out / NAME} is damaged; start a new run") from None
    model, train = checkpoint_file.configs(header)
    had = dataclasses.asdict(settings) | dataclasses.asdict(train) | asked
    new = given(options, SFTConfig) | {
        name: value for name, value in given(options, TrainConfig).items() if name in FIXED
    }
    new |= {name: getattr(options, name) for name in ASKED if hasattr(options, name)}
    for name, value in new.items():
        if value != had.get(name):
            raise UserError(f"the run in {out} has {name}={had.get(name)!r}, not {value!r}; start a new run for that")
    wing = speaking(wing, out)
    if not wing.chat:
        raise UserError(f"{out} lacks its chat.json; start a new run")
    return wing, model, dataclasses.replace(train, **given(options, TrainConfig)), settings, asked, None


def _conversations(wing, model, settings, seed, asked):
    """(Conversations to learn from, held-out Conversations, held-out Examples)."""
    sources, held_out = asked["data"], asked.get("held_out")
    groups = [conversations.examples(source, asked.get("examples"), seed) for source in sources]
    if held_out:
        golden = conversations.examples(held_out, asked.get("held_out_examples"), seed, "held_out")
    else:
        golden = []
        for number, source in enumerate(sources):
            if instructions.is_file(source):
                groups[number], rest = conversations.split(groups[number])
                golden += rest
            else:
                golden += conversations.examples(source, asked.get("held_out_examples"), seed, "held_out")
    arguments = wing.chat, wing.encode, model.context
    data = conversations.tokenized(groups, *arguments, settings.prompt_weight, settings.long)
    return data, conversations.tokenized([golden], *arguments, long=settings.long), golden


def _note(out, settings, asked, data):
    """Write down what a run was begun with."""
    found = {"settings": dataclasses.asdict(settings), "asked": asked, "fingerprint": conversations.fingerprint(data)}
    replace(out / NAME, lambda file: file.write((json.dumps(found, indent=1) + "\n").encode()))


def _check_same(asked, data, out):
    if conversations.fingerprint(data) != asked["fingerprint"]:
        raise UserError(f"the conversations in {', '.join(asked['data'])} are no longer those that the run in {out} began "
                        "with; bring them back, or start a new run")  # fmt: skip


def _trained(model, settings):
    """How much of the model is trained, in words."""
    lora = adapters.of(settings)
    total = parameter_count(model)
    if not lora:
        return f"{total:,} parameters"
    number = sum(int(np.prod(shape)) for shape in adapters.trained_shapes(model, lora).values())
    return f"{number:,} of {total:,} parameters trained"


def _sampler(wing, golden, progress):
    """A function of a Run that shows its answer to one held-out prompt after the other."""

    def sample(run):
        one = golden[run.step // run.train_config.sample_every % len(golden)]
        shown = dataclasses.replace(run, params=wing.model_weights(run), frozen=None)
        rows, _ = report.judged(wing, shown, [one])
        progress.note(
            f"step {run.step}: {json.dumps(rows[0]['prompt'])} -> {json.dumps(rows[0]['answer'])}, gold {json.dumps(one.answer)}"
        )

    return sample


def _judge(wing, out, golden, count, device):
    """Answer held-out prompts with the finished model; the table goes to stdout, the rows to the run folder."""
    if not count:
        return
    run = wing.load(out, device=wing.choose_device(device))
    rows, summary = report.judged(wing, run, golden[:count])
    report.write(out / ANSWERS, rows)
    print(report.table(rows, summary))


def add(command):
    """The parsers of ``sft``, ``answers`` and ``adapt``; returns that of the one that reads a model, ``answers``."""
    tuning = command("sft", "fine-tune a model on conversations, or go on with such a run (--resume)", sft)
    tuning.add_argument("--checkpoint", metavar="DIR", help="the model to begin with: run folder or .npz file")
    tuning.add_argument("--data", action="append", metavar="SOURCE", help="JSONL file of conversations, or a task such as sort-6; may be repeated")
    tuning.add_argument("--held-out", metavar="SOURCE", help="conversations to be judged by (a tenth of --data's prompts)")
    tuning.add_argument("--examples", type=int, metavar="N", help="conversations of a task (1000)")
    tuning.add_argument("--held-out-examples", type=int, metavar="N", help="held-out conversations of a task (200)")
    tuning.add_argument("--judge", type=int, metavar="N", help="held-out prompts that are answered at the end (200; 0: none)")
    tuning.add_argument("--out", required=True, help="run folder: config, log, order, checkpoint, answers, pictures")
    tuning.add_argument("--resume", action="store_true", help="go on with the run in --out")
    tuning.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop and save before they are over")
    add_fields(tuning.add_argument_group("fine-tuning"), SFTConfig, SFTConfig())
    add_fields(tuning.add_argument_group("training"), TrainConfig, TRAINING)

    reader = command("answers", "answer prompts and judge the answers against gold ones", answers)
    add_checkpoint(reader)
    add_dtype(reader)
    reader.add_argument("--data", required=True, action="append", metavar="SOURCE", help="JSONL file of conversations, or a task")
    reader.add_argument("--side", choices=("train", "held_out"), help="which prompts of a task (held_out)")
    reader.add_argument("--limit", type=int, metavar="N", help="prompts at most (200)")
    reader.add_argument("--samples", type=int, metavar="K", help="sampled answers to each prompt, for pass@k (0)")
    reader.add_argument("--out", metavar="FILE.jsonl", help="a row for each prompt")
    reader.add_argument("--json", action="store_true", help="print the metrics as one JSON object")
    add_fields(reader, SampleConfig, SampleConfig())

    merge = command("adapt", "merge adapters that `sft --lora-rank` has written into their model", adapt)
    add_checkpoint(merge)
    merge.add_argument("--adapters", required=True, metavar="FILE", help="adapters.npz of the run")
    merge.add_argument("--out", required=True, metavar="DIR", help="folder of the merged model")
    return reader
