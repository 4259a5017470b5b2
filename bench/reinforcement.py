"""Does reinforcement learning work? ``python -m bench.reinforcement`` trains small policies, before and after, on held-out prompts.

    sorting       eight digits from 100 labelled examples, then GRPO, PPO, or as long again on the same examples
    lexical       letters rather than other bytes: what a price on the distance from the reference does
    preference    PPO on the score of a reward model, of few pairs and of many: the true score beside it
    ladder        (only with --ladder) more digits than were taught, addition up to three digits, countdown

Three seeds each: a seed draws examples, prompts, samples and weights. Held-out prompts have digits that no training
prompt has, in any order. Results go to a folder: rows.jsonl, rl.md, pictures. A run whose row is there is not trained
again; so it goes on where it was stopped.
"""

import argparse
import dataclasses
import functools
import json
import shutil
import sys
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

from bench import environment
from bench import reinforcement_report as report
from numpy_ref import log
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.files import replace
from numpy_ref.progress import Progress
from numpy_ref.reward.dataset import Comparisons, encoded
from numpy_ref.reward.preferences import graded
from numpy_ref.reward.settings import TRAINING as COMPARING
from numpy_ref.reward.settings import RewardConfig
from numpy_ref.rl import pictures
from numpy_ref.rl.prompts import FilePrompts, Speech, TaskPrompts
from numpy_ref.rl.rewards import Each, Judge, Model, checker, partial_credit
from numpy_ref.rl.settings import TRAINING, GRPOConfig, PPOConfig
from numpy_ref.sft import conversations
from numpy_ref.sft.settings import SFTConfig
from numpy_ref.tasks.builtin import find
from numpy_ref.tokenizers import byte
from torch_impl.grpo.loop import train_grpo
from torch_impl.model.initialise import initialise
from torch_impl.ppo.loop import train_ppo
from torch_impl.reward.evaluation import judge as judge_texts
from torch_impl.reward.loop import train_reward
from torch_impl.rl.evaluate import held_out
from torch_impl.rl.experience import gather
from torch_impl.sft.loop import fine_tune
from torch_impl.training import checkpoint

CHAT = ChatFormat(256)
SPEECH = Speech(byte.encode, byte.decode, CHAT)
ASKED = 1000  # held-out prompts of a figure

MODEL = ModelConfig(
    vocab_size=CHAT.vocab_size, context=40, layers=4, width=128, heads=4, feed_forward=512, positions="learned", norm="rms",
    activation="gelu", feed_forward_bias=False,
)  # fmt: skip
LABELS, TAUGHT, LONGER = 100, 120, 1000  # examples; steps of fine-tuning; steps of the control
UPDATES, HELD = 160, {"GRPO": 0.999, "PPO": 0.95}  # decay of Adam's second moment
SAMPLING = {"tokens": 12, "eval_prompts": ASKED}
GRPO = GRPOConfig(**SAMPLING, minibatches=4, dynamic=2)
PPO = PPOConfig(**SAMPLING, minibatches=4, kl_reward=0.0)

SMALL = ModelConfig(vocab_size=256, context=32, layers=1, width=64, heads=4, feed_forward=128, norm="rms", positions="learned")
PRICES = (0.0, 0.01, 0.02, 0.05, 0.2)  # of a nat of distance, where a text of letters alone is worth 1
LETTERS, LEXICAL = 16, 60  # characters of a text; updates

COMPARED = 500  # held-out pairs
PAIRS = {"few pairs": (100, 100), "many pairs": (6000, 150)}  # training pairs, steps of the reward model
CHASED = 50  # updates on a reward model's score
CHASES = (("few pairs", 0.0), ("few pairs", 0.1), ("many pairs", 0.0), ("many pairs", 0.1))  # of which model, price of a nat a token

LARGER = dataclasses.replace(MODEL, context=64)  # the ladder has longer prompts
CLIMBED = 500  # held-out prompts of a rung


@dataclasses.dataclass(frozen=True)
class Rung:
    """A step of the ladder: what is asked for, from which examples, and for how long."""

    asked: tuple  # tasks, easiest first
    shown: dict  # task: how many examples of it
    steps: int  # of fine-tuning
    longer: int  # steps of the control, which take about as long as fine-tuning and reinforcement together
    updates: int = 100
    batch: int = 64  # of fine-tuning
    ways: tuple = ("GRPO",)  # of reinforcement, from WAYS


WAYS = {"GRPO": {}, "GRPO, difficulty adapted": {"adaptive": 1.0}}  # settings

RUNGS = {
    "longer digits": Rung(
        ("sort-5", "sort-6", "sort-7", "sort-8"),
        {"sort-3": 200, "sort-4": 200, "sort-5": 200, "sort-6": 30, "sort-7": 30, "sort-8": 30},
        200, 850, updates=120, ways=("GRPO", "GRPO, difficulty adapted"),
    ),
    "countdown": Rung(("countdown-3",), {"countdown-3": 3000}, 600, 1500, updates=60, batch=32),
    "addition up to three digits": Rung(
        ("add-1", "add-2", "add-3"), {"add-1": 60, "add-2": 1500, "add-3": 1500}, 1000, 2000, batch=32
    ),
}


def main(argv=None):
    """Train what is not there yet, write the report; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.reinforcement", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results/rl"), help="folder of the report")
    parser.add_argument("--work", type=Path, default=Path("runs/rl"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[], help="some of the experiments")
    parser.add_argument("--ladder", action="store_true", help="harder tasks too, for larger machines")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (3)")
    options = parser.parse_args(argv)
    wanted = options.only or [name for name in KINDS if name != "ladder"]
    wanted += ["ladder"] * (options.ladder and "ladder" not in wanted)
    rows = []
    for kind in KINDS:
        for seed in range(options.seeds if kind in wanted else 0):
            for name, make in KINDS[kind](options.work / kind, seed):
                rows.append(row(options.work / kind, kind, name, seed, make))
    report.write(options.out, rows, environment.describe("cpu"))
    return 0


def row(work, kind, name, seed, make):
    """The row of a run, made now unless it is there."""
    path = folder(work, name, seed) / "row.json"
    if not path.exists():
        print(f"{kind}: {name}, seed {seed}", file=sys.stderr, flush=True)
        start, worked = perf_counter(), process_time()
        found = {"experiment": kind, "name": name, "seed": seed} | make()
        found |= {"wall_seconds": round(perf_counter() - start, 1), "cpu_seconds": round(process_time() - worked, 1)}
        replace(path, lambda file: file.write(json.dumps(found).encode()))
    return json.loads(path.read_text())


def folder(work, name, seed):
    """Where a run is."""
    return work / f"{name.replace(' ', '-')}-{seed}"


# -- sorting ------------------------------------------------------------------------------------------------------


def sorting(work, seed):
    """(name, function that makes the row) of each run; the later ones begin with the first."""
    task, begin = find("sort-8"), policy(work, seed)
    yield "taught", None  # its row is there
    for name, settings in (("GRPO", GRPO), ("PPO", PPO)):
        yield name, lambda: reinforced(
            folder(work, name, seed), begin, settings, prompts([task], seed), right(), seed, UPDATES, beta2=HELD[name]
        )
    yield "more steps", lambda: taught(folder(work, "more steps", seed), MODEL, [task], [LABELS], LONGER, seed)


def policy(work, seed):
    """The Run of the fine-tuned policy of a seed, which two experiments begin with."""
    own = work.parent / "sorting"
    out, tasks = folder(own, "taught", seed), [find("sort-8")]
    row(own, "sorting", "taught", seed, lambda: taught(out, MODEL, tasks, [LABELS], TAUGHT, seed))
    return checkpoint.load(out, "float32")


def taught(out, model, tasks, counts, steps, seed, asked=None, batch=64, count=None):
    """Fine-tuning of a new model on so many examples of each task, and what it can do of those ``asked`` for at its end."""
    fresh(out)
    train_config = TrainConfig(
        steps=steps, batch=batch, lr=1e-3, warmup=20, final_lr=0.1, dtype="float32", device="cpu", seed=seed, eval_every=0, save_every=0
    )
    examples = [conversations.examples(task.name, count, seed) for task, count in zip(tasks, counts, strict=True)]
    data = conversations.tokenized(examples, CHAT, byte.encode, model.context)
    run = fine_tune(
        model, train_config, SFTConfig(pack=False), data, data, initialise(model, seed, torch.float32), out, report=Progress(steps)
    )
    found = held_out(run.params, model, prompts(asked or tasks, seed).held_out(count or ASKED), SPEECH, right(), GRPO)
    seconds = log.read_rows(out / log.NAME)[-1]["time"]
    size = {"tokens": run.tokens, "updates": steps, "examples": len(data)}
    return {"curve": [{"step": steps} | figures(found)], "seconds": seconds} | size


def reinforced(out, begin, settings, source, judge, seed, updates, **changes):
    """PPO or GRPO from a Run; the evaluations on the way and what every step logged."""
    fresh(out)
    train_config = dataclasses.replace(
        TRAINING, **({"steps": updates, "seed": seed, "device": "cpu", "eval_every": updates // 2, "save_every": 0} | changes)
    )
    train_policy = train_ppo if isinstance(settings, PPOConfig) else train_grpo
    run = train_policy(begin.model_config, train_config, settings, source, judge, begin.params, out, report=Progress(updates, rewards=True))
    rows = pictures.with_before(log.read_rows(out / log.NAME), out)
    pictures.training(rows, out / "training_curve.png")
    kept = {name: [row.get(name) for row in rows if row["step"]] for name in LOGGED if name in rows[-1] or name in rows[1]}
    evaluated = [{"step": row["step"]} | figures(row, "val_") for row in rows if row.get("val_reward") is not None]
    seconds = {name: sum(kept[f"seconds_{name}"]) for name in ("generation", "scoring", "update")}
    size = {"tokens": run.tokens, "updates": updates}
    return {"curve": evaluated, "log": kept, "seconds": sum(seconds.values()), "split": seconds} | size


LOGGED = (
    "reward", "reward_right", "reward_closeness", "reward_score", "kl", "kl_completion", "entropy", "zero_variance", "level",
    "explained_variance", "seconds_generation", "seconds_scoring", "seconds_update",
)  # fmt: skip
FIGURES = ("reward", "reward_sampled", "ended", "greedy", "pass_1", "pass_8", "score", "closeness")


def figures(row, prefix=""):
    """The numbers of an evaluation, rounded."""
    return {name: round(row[prefix + name], 5) for name in FIGURES if row.get(prefix + name) is not None}


def fresh(out):
    """An empty folder: what an unfinished run left is begun anew."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def prompts(tasks, seed):
    return TaskPrompts(tasks, SPEECH, seed=1000 + seed)


def right():
    return Judge((checker(),))


# -- letters ------------------------------------------------------------------------------------------------------


def lexical(work, seed):
    """An untrained model is paid for letters, at several prices of the distance from what it was."""
    begin = type("Untrained", (), {"model_config": SMALL, "params": initialise(SMALL, seed, torch.float32)})
    speech = Speech(byte.encode, byte.decode)
    words = [type("Word", (), {"prompt": f"write {number}="}) for number in range(40)]
    judge = Judge((Each("letters", lambda one: sum(97 <= token <= 122 for token in one.ids) / LETTERS),))
    for price in PRICES:
        # The others' mean as baseline leaves rewards in their own unit, so that a price is one of reward for a nat.
        settings = GRPOConfig(
            prompts=16, tokens=LETTERS, baseline="rloo", kl_loss=price, kl_every=1, eval_prompts=4, minibatches=2
        )
        source = FilePrompts(words, speech, seed)
        yield f"price {price:g}", lambda: {"price": price} | reinforced(
            folder(work, f"price {price:g}", seed), begin, settings, source, judge, seed, LEXICAL, lr=4e-3, warmup=5, eval_every=0
        )


# -- preferences --------------------------------------------------------------------------------------------------


def preference(work, seed):
    """A policy, reward models of few and of many pairs, and PPO on what each thinks of answers."""
    task, begin = find("sort-8"), policy(work, seed)
    for pairs in PAIRS:
        yield pairs, lambda: compared(folder(work, pairs, seed), begin, task, *PAIRS[pairs], seed)
    for pairs, price in CHASES:
        name = f"{pairs}, price {price:g}"
        settings = dataclasses.replace(PPO, kl_reward=price, kl_every=1, eval_prompts=max(1, ASKED // 5))
        model = checkpoint.load(folder(work, pairs, seed), "float32")
        yield name, lambda: {"pairs": pairs, "price": price} | reinforced(
            folder(work, name, seed), begin, settings, prompts([task], seed), scored(model, begin, task, seed), seed, CHASED
        )


def compared(out, begin, task, count, steps, seed):
    """A reward model of graded pairs, and how often it is right about held-out ones."""
    fresh(out)
    config = dataclasses.replace(
        COMPARING["RewardConfig"], steps=steps, batch=64, lr=1e-3, seed=seed, device="cpu", dtype="float32", eval_every=steps,
        save_every=0,
    )  # fmt: skip
    sides = [encoded(graded(task, *side, margins=True), CHAT, byte.encode, MODEL.context) for side in (
        ("train", count, seed), ("held_out", COMPARED, 100))]  # fmt: skip
    run = train_reward(begin, config, RewardConfig(centring=0.01), Comparisons(*sides), out, report=Progress(steps))
    rewards = judge_texts(run.params, [text for one in sides[1] for text in one.texts], run.model_config).view(-1, 2)
    accuracy = float((rewards[:, 0] > rewards[:, 1]).double().mean())
    return {"pairs": count, "updates": steps, "accuracy": accuracy, "seconds": log.read_rows(out / log.NAME)[-1]["time"]}


def scored(model, begin, task, seed):
    """The model's score, brought to mean 0 and deviation 1 on the policy's own answers; the truth is only noted."""

    def raw(texts):
        return np.array(judge_texts(model.params, texts, model.model_config).tolist())

    seen, _ = gather(begin.params, begin.model_config, prompts([task], seed), Judge((Model("score", raw),)), PPO, seed)
    centre, scale = float(seen["rewards"].mean()), float(seen["rewards"].std())
    score = Model("score", lambda texts: ((raw(texts) - centre) / scale).tolist())
    return Judge((score, checker(0.0), partial_credit(0.0)))


# -- harder tasks -------------------------------------------------------------------------------------------------


def ladder(work, seed):
    """GRPO on tasks that take longer, from few examples or from easier ones; or as long again on the same examples."""
    for name, rung in RUNGS.items():
        asked, begin = [find(task) for task in rung.asked], f"{name}, taught"
        tuned = LARGER, [find(task) for task in rung.shown], tuple(rung.shown.values())

        def apart(run_name, make, *arguments):
            out = folder(work, run_name, seed)
            found = make(out, *arguments)
            return found | {"tasks": of_each(checkpoint.load(out, "float32"), asked, seed)}

        yield begin, lambda: apart(begin, taught, *tuned, rung.steps, seed, asked, rung.batch, CLIMBED)
        able = checkpoint.load(folder(work, begin, seed), "float32")
        source, rewarded = prompts(asked, seed), functools.partial(reinforced, lr=1e-4, beta2=HELD["GRPO"], eval_every=0)
        for way in rung.ways:
            settings, after = dataclasses.replace(GRPO, eval_prompts=CLIMBED, **WAYS[way]), f"{name}, {way}"
            yield after, lambda: apart(after, rewarded, able, settings, source, right(), seed, rung.updates)
        control = f"{name}, more steps"
        yield control, lambda: apart(control, taught, *tuned, rung.longer, seed, asked, rung.batch, CLIMBED)


def of_each(run, tasks, seed):
    """{task: share of its held-out prompts with a right greedy answer}."""
    settings, share = dataclasses.replace(GRPO, eval_samples=1), max(1, CLIMBED // len(tasks))
    found = {}
    for task in tasks:
        some = prompts([task], seed).held_out(share)
        found[task.name] = round(held_out(run.params, run.model_config, some, SPEECH, right(), settings)["greedy"], 5)
    return found


KINDS = {"sorting": sorting, "lexical": lexical, "preference": preference, "ladder": ladder}


if __name__ == "__main__":
    sys.exit(main())
