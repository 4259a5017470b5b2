"""Preferences at the command line: ``reward`` trains a reward model, ``dpo`` a policy, ``judge`` measures reward models.

    python -m torch_impl reward --checkpoint runs/talk --data pairs.jsonl --out runs/reward
    python -m torch_impl dpo --checkpoint runs/talk --data sort-6 --out runs/dpo
    python -m torch_impl judge --checkpoint runs/reward --data sort-6 --policy runs/talk --out runs/reward/judged
"""

import dataclasses
import math
from pathlib import Path
from time import perf_counter

from numpy_ref import checkpoint_file, log
from numpy_ref.cli_options import add_checkpoint, add_fields
from numpy_ref.commands import FIXED, given, opened, say, stopped, time_budget, whole
from numpy_ref.config import TrainConfig, parameter_count
from numpy_ref.data import instructions
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.errors import UserError
from numpy_ref.interrupt import Interrupted
from numpy_ref.progress import Progress, clock
from numpy_ref.reward import judging, pictures, preferences
from numpy_ref.reward import settings as kinds
from numpy_ref.reward.dataset import Comparisons, encoded
from numpy_ref.reward.settings import DPOConfig, RewardConfig
from numpy_ref.tasks import builtin
from numpy_ref.tokenizer_commands import keep, speaking, with_chat

DEFINITION = "words for people: the wings compute"

TRAIN, HELD_OUT, REFERENCE = "data/train.jsonl", "data/held_out.jsonl", "reference"
PICTURE = "training_curve.png"
PAIRS, HELD_OUT_PAIRS = 2000, 400  # synthetic comparisons of a task


def reward(wing, options):
    """Train a reward model on comparisons, or go on with such a run; at the end it is measured on held-out ones."""
    return _train(wing, options, RewardConfig, "reward", wing.train_reward)


def dpo(wing, options):
    """Train a model on comparisons without a reward model, or go on with such a run."""
    return _train(wing, options, DPOConfig, "dpo", wing.train_dpo)


def judge(wing, options):
    """Measure a reward model, or several together, on comparisons; and as what chooses the best of a policy's answers."""
    for name, least in {"pairs": 1, "prompts": 1, "samples": 1, "seed": 0}.items():
        whole(options, name, least)
    rule, k = getattr(options, "rule", "mean"), getattr(options, "k", 1.0)
    if not (math.isfinite(k) and k >= 0):
        raise UserError(f"--k {k} is not allowed; give a number of deviations, at least 0")
    names = [options.checkpoint, *getattr(options, "member", [])]
    runs = [judging.opened_reward_model(wing, name, options) for name in names]
    found = preferences_of(options.data, "held_out", getattr(options, "pairs", None))
    comparisons = encoded(found, wing.chat, wing.encode, runs[0].model_config.context, pairs=False)
    report = judging.measured(wing, runs, comparisons, rule, k)
    curves = None
    if hasattr(options, "policy"):
        if instructions.is_file(options.data):
            raise UserError("--policy answers the prompts of a task, whose right answers are known; give --data sort-6 or the like")
        policy = judging.opened_policy(wing, options.policy, options)
        task = builtin.find(options.data)
        prompts, samples = getattr(options, "prompts", 100), getattr(options, "samples", 64)
        seed = getattr(options, "seed", 0)
        curves = judging.best_of(wing, policy, runs, task, prompts, samples, rule, k, seed)
    judging.show(report, curves, hasattr(options, "json"))
    if hasattr(options, "out"):
        judging.write(options.out, report, curves)
        say(f"wrote {options.out}")


def _train(wing, options, kind, name, train_model):
    start, seconds, out = perf_counter(), time_budget(options), Path(options.out)
    resume = getattr(options, "resume", False)
    wing, base, train, settings = (_resumed if resume else _fresh)(wing, options, out, kind)
    pairs = kind is DPOConfig or settings.loss != "plackett_luce"
    dataset = Comparisons(*(
        encoded(preferences.read(out / file), wing.chat, wing.encode, base.model_config.context, pairs)
        for file in (TRAIN, HELD_OUT)
    ))  # fmt: skip
    facts = f"{len(dataset.train):,} comparisons, {len(dataset.validation):,} held out; {train.steps} steps of {train.batch}"
    say(f"{parameter_count(base.model_config):,} parameters; {facts}; run folder {out}")
    progress = Progress(train.steps)
    left = None if seconds is None else seconds - (perf_counter() - start)
    try:
        run = train_model(base, train, settings, dataset, out, resume=resume, report=progress, seconds=left)
    except Interrupted as stop:
        progress.note(_stopped(wing, stop, out, name))
        return stop.status
    finally:
        progress.close()
        _picture(out)
    if run.step < train.steps:
        say(f"the time budget of {seconds:g} s ends: {_stopped(wing, run, out, name)}")
        return None
    held = next((row for row in reversed(log.read_rows(out / log.NAME)) if row.get("val_loss") is not None), {})
    right = "" if held.get("val_accuracy") is None else f", {held['val_accuracy']:.1%} of the pairs in the right order"
    say(f"done: {run.step} of {train.steps} steps in {clock(run.seconds)}; held-out loss {held['val_loss']:.3f}{right}")
    if name == "reward":
        report = judging.measured(wing, [run], dataset.validation)
        judging.show(report, None, False)
        judging.write(out, report, None)
        say(f"try: python -m {wing.name} judge --checkpoint {out} --data {getattr(options, 'data', 'pairs.jsonl')}")
    else:
        say(f"try: python -m {wing.name} chat --checkpoint {out}")
    return None


def _fresh(wing, options, out, kind):
    """(wing, base Run, TrainConfig, settings) of a new run, whose comparisons are then in its folder."""
    for name in ("checkpoint", "data"):
        if not hasattr(options, name):
            raise UserError(f"--{name} is missing; give a language model and comparisons to train on (or --resume a run)")
    if checkpoint_file.exists(out):
        raise UserError(f"{out} already holds a run; go on with it by --resume, or take another --out")
    for name in ("pairs", "held_out_pairs"):
        whole(options, name, 1)
    base = opened(wing, options)
    if any(checkpoint_file.is_quantized(value) for value in base.params.values()):
        raise UserError(f"the model in {options.checkpoint} is quantised: it can generate, but not train; give the original")
    train = dataclasses.replace(kinds.TRAINING[kind.__name__], **given(options, TrainConfig))
    settings = kind(**given(options, kind))
    wing = with_chat(wing, wing.chat or ChatFormat(len(wing.vocabulary) if wing.vocabulary else 256))
    size = max(base.model_config.vocab_size, wing.chat.vocab_size)
    base.params = wing.widen_vocabulary(base.params, size, train.seed)
    base.model_config = dataclasses.replace(base.model_config, vocab_size=size)
    base.states = {name: {} for name in base.params}
    pairs = kind is DPOConfig or settings.loss != "plackett_luce"

    def check(found):
        encoded(found, wing.chat, wing.encode, base.model_config.context, pairs)

    sides = _sides(options, train.seed, 2 if pairs else 4, check)
    for name, side in zip((TRAIN, HELD_OUT), sides):
        preferences.write(out / name, side)
    kinds.write(out, settings)
    keep(wing, out)
    if kind is DPOConfig:
        wing.save(out / REFERENCE, base)
    return wing, base, train, settings


def _resumed(wing, options, out, kind):
    """The same of the run in ``out``, with the given training options on top."""
    settings = kinds.read(out, kind)
    model, train = checkpoint_file.configs(checkpoint_file.read_header(out))
    had = dataclasses.asdict(settings) | dataclasses.asdict(train)
    new = given(options, kind) | {name: value for name, value in given(options, TrainConfig).items() if name in FIXED}
    for name, value in new.items():
        if value != had[name]:
            raise UserError(f"the run in {out} has {name}={had[name]!r}, not {value!r}; start a new run for that")
    for name in ("checkpoint", "data", "held_out", "pairs", "held_out_pairs"):
        if hasattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} belongs to a new run; the one in {out} has its own, leave it out")
    wing = speaking(wing, out)
    if not wing.chat:
        raise UserError(f"{out} lacks its chat.json; start a new run")
    device = wing.choose_device(getattr(options, "device", train.device))
    base = wing.load(out / REFERENCE if kind is DPOConfig else out, device=device)
    base.model_config = dataclasses.replace(base.model_config, dropout=0.0) if kind is RewardConfig else base.model_config
    return wing, base, dataclasses.replace(train, **given(options, TrainConfig)), settings


def _sides(options, seed, answers, check):
    """(training, held-out) Preferences of --data and --held-out. ``check(preferences)`` refuses what does not fit the model
    while they still know the lines of their files."""
    first = preferences_of(options.data, "train", getattr(options, "pairs", None), seed, answers)
    check(first)
    if instructions.is_file(options.data) and not hasattr(options, "held_out"):
        return preferences.split(first)
    source = getattr(options, "held_out", options.data)
    second = preferences_of(source, "held_out", getattr(options, "held_out_pairs", None), seed, answers)
    check(second)
    return first, second


def preferences_of(source, side, count=None, seed=0, answers=2):
    """Preferences of a JSONL file, or synthetic ones of a task such as sort-6. Raises UserError for neither."""
    if instructions.is_file(source):
        return preferences.read(source)
    try:
        task = builtin.find(str(source))
    except UserError as error:
        raise UserError(f"there is no file {str(source)!r}, and {error}") from None
    count = count or (PAIRS if side == "train" else HELD_OUT_PAIRS)
    return preferences.graded(task, side, count, seed, answers, margins=answers == 2)


def _stopped(wing, stop, out, name):
    return stopped(wing, stop, out).replace("train --resume", f"{name} --resume")


def _picture(out):
    """Draw the run from its log. No run fails for want of a picture."""
    rows = log.read_rows(out / log.NAME)
    try:
        if any(row.get("loss") is not None for row in rows):
            pictures.training(rows, out / PICTURE, title=f"Training of {out}")
    except OSError as error:
        say(f"{out / PICTURE} could not be drawn: {error.strerror or error}")


def add(command):
    """The parsers of ``reward``, ``dpo`` and ``judge``."""
    trained = {
        "reward": ("train a reward model on comparisons of answers", reward, RewardConfig),
        "dpo": ("train a model on comparisons, without a reward model", dpo, DPOConfig),
    }
    for name, (help, run, kind) in trained.items():
        add_preferences(command(name, help + ", or go on with such a run (--resume)", run), kind)
    judging = command("judge", "measure reward models: pairs in the right order, calibration, the best of n answers", judge)
    add_checkpoint(judging)
    judging.add_argument("--member", action="append", metavar="DIR", help="another reward model, for an ensemble; may be repeated")
    judging.add_argument("--rule", choices=kinds.RULES, help="how several rewards become one (mean)")
    judging.add_argument("--k", type=float, metavar="X", help="lower: how many deviations between the models (1)")
    judging.add_argument("--data", required=True, metavar="SOURCE", help="JSONL file of comparisons, or a task such as sort-6")
    judging.add_argument("--pairs", type=int, metavar="N", help="held-out comparisons of a task (400)")
    judging.add_argument("--policy", metavar="DIR", help="a model whose answers to the task's prompts the best is chosen of")
    judging.add_argument("--prompts", type=int, metavar="N", help="with --policy: held-out prompts (100)")
    judging.add_argument("--samples", type=int, metavar="N", help="with --policy: answers to each (64)")
    judging.add_argument("--seed", type=int, metavar="N", help="with --policy: seed of prompts and answers (0)")
    judging.add_argument("--out", metavar="DIR", help="folder for the report and its pictures")
    judging.add_argument("--json", action="store_true", help="print one JSON object")


def add_preferences(parser, kind):
    """Options of a command that trains on comparisons; ``kind``: the dataclass of its objective."""
    parser.add_argument("--checkpoint", metavar="DIR", help="the language model to begin with: run folder or .npz file")
    parser.add_argument("--data", metavar="SOURCE", help="JSONL file of comparisons, or a task such as sort-6, which makes them")
    parser.add_argument("--held-out", metavar="SOURCE", help="comparisons to be judged by (a tenth of --data's prompts)")
    parser.add_argument("--pairs", type=int, metavar="N", help="comparisons of a task (2000)")
    parser.add_argument("--held-out-pairs", type=int, metavar="N", help="held-out comparisons of a task (400)")
    parser.add_argument("--out", required=True, help="run folder: config, comparisons, log, checkpoint, pictures")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop and save before they are over")
    add_fields(parser.add_argument_group("objective"), kind, kind())
    add_fields(parser.add_argument_group("training"), TrainConfig, kinds.TRAINING[kind.__name__])
