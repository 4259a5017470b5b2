"""Reinforcement learning at the command line: ``ppo`` and ``grpo``.

    python -m torch_impl grpo --checkpoint runs/talk --task sort-8 --out runs/grpo
    python -m torch_impl ppo --checkpoint runs/talk --data prompts.jsonl --reward runs/reward --out runs/ppo
"""

import dataclasses
from pathlib import Path
from time import perf_counter

from numpy_ref import checkpoint_file, log
from numpy_ref.commands import FIXED, given, opened, say, stopped, time_budget
from numpy_ref.config import TrainConfig, parameter_count
from numpy_ref.data import instructions
from numpy_ref.errors import UserError
from numpy_ref.interrupt import Interrupted
from numpy_ref.progress import Progress, clock
from numpy_ref.reward import preferences
from numpy_ref.reward.judging import opened_reward_model
from numpy_ref.rl import pictures
from numpy_ref.rl.prompts import FilePrompts, Speech, TaskPrompts
from numpy_ref.rl.rewards import BUILT_IN, Judge, Model, named
from numpy_ref.rl.settings import KINDS, TRAINING, read, write
from numpy_ref.tasks import builtin
from numpy_ref.tokenizer_commands import keep, speaking

DEFINITION = "words for people: the wings compute"

PICTURE = "training_curve.png"
ASKED = ("task", "data", "reward")  # options that say what is learnt
UNLIKE = ("init_std", "dropout")  # in which a critic's model may be unlike the policy


def ppo(wing, options):
    """Learn from rewards by PPO, or go on with such a run."""
    return _train(wing, options, "ppo", wing.train_ppo)


def grpo(wing, options):
    """Learn from rewards by GRPO, or go on with such a run."""
    return _train(wing, options, "grpo", wing.train_grpo)


def _train(wing, options, name, train_policy):
    start, seconds, out = perf_counter(), time_budget(options), Path(options.out)
    resume = getattr(options, "resume", False)
    wing, base, train, settings, asked = (_resumed if resume else _fresh)(wing, options, out, name)
    speech = Speech(wing.encode, lambda ids: _text(wing, ids), wing.chat)
    source = _prompts(asked, speech, train.seed)
    rewards, critic = _rewards(wing, options, asked)
    model = dataclasses.replace(base.model_config, output="tokens")
    extra = {"reward": _begins(critic, model)} if getattr(settings, "critic", None) == "critic" else {}
    if isinstance(source, FilePrompts):
        _check_prompts(source, rewards, model, settings)
    if not resume:
        keep(wing, out)
        write(out, name, settings, asked)
    facts = f"{settings.prompts} prompts x {settings.group} completions a step, {train.steps} steps"
    say(f"{parameter_count(model):,} parameters; {facts}; run folder {out}")
    progress = Progress(train.steps, rewards=True)
    left = None if seconds is None else seconds - (perf_counter() - start)
    try:
        run = train_policy(
            model, train, settings, source, Judge(rewards, settings.reward_errors), base.params, out, **extra, resume=resume,
            report=progress, seconds=left,
        )  # fmt: skip
    except Interrupted as stop:
        progress.note(_stopped(wing, stop, out, name))
        return stop.status
    finally:
        progress.close()
        _picture(out)
    if run.step < train.steps:
        say(f"the time budget of {seconds:g} s ends: {_stopped(wing, run, out, name)}")
        return None
    say(f"done: {run.step} of {train.steps} steps in {clock(run.seconds)}; {_result(out)}")
    say(f"try: python -m {wing.name} chat --checkpoint {out}")
    return None


def _fresh(wing, options, out, name):
    """(wing, Run of the base policy, TrainConfig, settings, what was asked for) of a new run."""
    if not hasattr(options, "checkpoint"):
        raise UserError("--checkpoint is missing; give the policy to begin with, which `sft` made (or --resume a run)")
    if hasattr(options, "task") == hasattr(options, "data"):
        raise UserError("the prompts are missing; give --task, as sort-8, or --data FILE.jsonl, and not both")
    if checkpoint_file.exists(out):
        raise UserError(f"{out} already holds a run; go on with it by --resume, or take another --out")
    base = opened(wing, options)
    if any(checkpoint_file.is_quantized(value) for value in base.params.values()):
        raise UserError(f"the model in {options.checkpoint} is quantised: it can generate, but not train; give the original")
    train = _training(TRAINING, options)
    settings = KINDS[name](**given(options, KINDS[name]))
    asked = {key: getattr(options, key) for key in ASKED if hasattr(options, key)}
    if settings.adaptive and len(asked.get("task", [])) < 2:
        raise UserError("adaptive difficulty needs several tasks to choose from; give --task more than once, easiest first")
    return speaking(wing, options.checkpoint), base, train, settings, asked


def _resumed(wing, options, out, name):
    """The same of the run in ``out``, with the given training options on top."""
    settings, asked = read(out, name)
    model, train = checkpoint_file.configs(checkpoint_file.read_header(out))
    had = dataclasses.asdict(settings) | dataclasses.asdict(train) | asked
    new = given(options, KINDS[name]) | {key: value for key, value in given(options, TrainConfig).items() if key in FIXED}
    new |= {key: getattr(options, key) for key in ASKED if hasattr(options, key)}
    for key, value in new.items():
        if value != had.get(key):
            raise UserError(f"the run in {out} has {key}={had.get(key)!r}, not {value!r}; start a new run for that")
    base = checkpoint_file.Run(model, train, {}, {})
    return speaking(wing, out), base, _training(train, options), settings, asked


def _training(before, options):
    """The TrainConfig with the options. It wants ``accumulate`` to divide a batch, which here a rollout takes the place of."""
    found = given(options, TrainConfig)
    return dataclasses.replace(before, **found, **({"batch": found["accumulate"]} if "accumulate" in found else {}))


def _prompts(asked, speech, seed):
    """Where prompts come from."""
    if "task" in asked:
        return TaskPrompts([builtin.find(task) for task in asked["task"]], speech, seed)
    path = asked["data"]
    with open(path, encoding="utf-8", errors="replace") if Path(path).is_file() else _missing(path) as file:
        compared = any(f'"{word}"' in file.readline() for word in ("chosen", "ranked"))
    return FilePrompts((preferences if compared else instructions).read(path), speech, seed)


def _check_prompts(source, rewards, model, settings):
    """What of a file of prompts can be known before the first step."""
    if not model.endless:
        source.check(model.context, settings.tokens)
    asking = [reward.name for reward in rewards if reward.name in BUILT_IN]
    if asking and source.held_out(1)[0].example is None:
        raise UserError(
            f"these prompts have no answers, which the reward {asking[0]!r} compares with; give --reward the run folder of a "
            "reward model or a function module:name, or prompts with answers"
        )


def _missing(path):
    raise UserError(f"there is no file {path}; give JSONL with a prompt a line, as `sft` or `reward` take them")


def _rewards(wing, options, asked):
    """(the rewards asked for, the Run of the first reward model among them or None). A number behind "=" is a weight."""
    found, critic = [], None
    for text in asked.get("reward", ["right"]):
        text, weight = _weight(text)
        if Path(text).exists():
            run = opened_reward_model(wing, text, options)
            if speaking(wing, text).chat != wing.chat:
                raise UserError(f"the reward model {text} knows another chat format than the policy; train it from the policy")
            critic = critic or run
            found.append(Model(Path(text).name, _judging(wing, run), weight))
        else:
            found.append(named(text, weight))
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise UserError(f"two rewards are called {max(names, key=names.count)!r}; give each once, with a weight: NAME=0.5")
    return tuple(found), critic


def _begins(reward, model):
    """The parameters of a reward model, for a critic apart to begin with; None for None."""
    if reward is None:
        return None
    ours, theirs = (dataclasses.asdict(dataclasses.replace(config, output="tokens")) for config in (model, reward.model_config))
    for name, value in ours.items():
        if theirs[name] != value and name not in UNLIKE:
            raise UserError(
                f"a critic apart begins as the reward model, which has {name}={theirs[name]!r} where the policy has {value!r}; "
                "train a reward model from the policy, or take --critic value"
            )
    return reward.params


def _weight(text):
    name, equals, number = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        return name, float(number)
    except ValueError:
        raise UserError(f"--reward {text} has no weight behind its =; give a number, as right=0.5") from None


def _judging(wing, run):
    return lambda texts: wing.to_numpy(wing.judge_texts(run.params, texts, run.model_config)).tolist()


def _text(wing, ids):
    decoder = wing.decoder()
    return "".join(decoder.push(int(token)) for token in ids) + decoder.finish()


def _result(out):
    """The last evaluation in words, and the one before the first step."""
    rows = pictures.with_before(log.read_rows(out / log.NAME), out)
    held = [row for row in rows if row.get("val_reward") is not None]
    if not held:
        return "nothing was evaluated"
    name = "val_greedy" if held[-1].get("val_greedy") is not None else "val_reward"
    words = {"val_greedy": "held-out prompts answered right", "val_reward": "mean held-out reward"}[name]
    shown = [f"{row[name]:.1%}" if name == "val_greedy" else f"{row[name]:.3f}" for row in (held[0], held[-1])]
    return f"{words}: {shown[0]} before, {shown[1]} now"


def _stopped(wing, stop, out, name):
    return stopped(wing, stop, out).replace("train --resume", f"{name} --resume")


def _picture(out):
    """Draw the run from its log. No run fails for want of a picture."""
    rows = log.read_rows(out / log.NAME)
    try:
        if any(row.get("loss") is not None for row in rows):
            pictures.training(pictures.with_before(rows, out), out / PICTURE, title=f"Learning in {out}")
    except OSError as error:
        say(f"{out / PICTURE} could not be drawn: {error.strerror or error}")
