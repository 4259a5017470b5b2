"""Do reward models work, and when do they fail? ``python -m bench.reward_models`` trains them on a task with known answers.

    policy      sorting six digits from a few hundred examples, which is too few to do it well
    reward      models that begin as one that can sort, on graded pairs: answers with fewer and with more mistakes
    best of n   the policy's answers, of which a reward model chooses: what is the chosen one truly worth?

Three seeds of reward models with many pairs, three with few; each seed draws pairs, order and head. Held-out pairs and
prompts have digits that no training prompt has, in any order. Results go to a folder: results.json, report.md, pictures.
A run that is there is not trained again; so it goes on where it was stopped.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path

import numpy as np

from bench import environment, finetuning
from numpy_ref.commands import say
from numpy_ref.config import parameter_count
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.files import replace
from numpy_ref.progress import Progress
from numpy_ref.reward import judging, pictures
from numpy_ref.reward.dataset import Comparisons, encoded
from numpy_ref.reward.preferences import graded
from numpy_ref.reward.settings import TRAINING, RewardConfig
from numpy_ref.sft import conversations, report
from numpy_ref.sft.settings import TRAINING as FINE_TUNING
from numpy_ref.sft.settings import SFTConfig
from numpy_ref.tasks.builtin import find
from numpy_ref.tokenizer_commands import with_chat
from torch_impl.__main__ import WING
from torch_impl.reward.loop import train_reward
from torch_impl.sft.loop import fine_tune
from torch_impl.training import checkpoint

SEEDS = (0, 1, 2)
TASK = find("sort-6")
CHAT = ChatFormat(256)
SPEAKER = with_chat(WING, CHAT)
POLICY_STEPS, POLICY_EXAMPLES = 150, 300
SIZES = {"many pairs": (40000, 1200), "few pairs": (100, 100)}  # training pairs, steps
LEARNING, CENTRING = {"batch": 64, "lr": 3e-3}, 0.001
JUDGED, ASKED = 1000, 200  # held-out pairs, and prompts
PROMPTS, SAMPLES = 100, 64


def main(argv=None):
    """Train what is not there yet, measure, write the report; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.reward_models", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results/reward"), help="folder of the report")
    parser.add_argument("--work", type=Path, default=Path("runs/reward"), help="folder of the runs")
    options = parser.parse_args(argv)
    policy, start = policy_model(options.work), start_model(options.work)
    found = {"environment": environment.describe("cpu"), "parameters": parameter_count(policy.model_config)}
    found["policy"] = policy_facts(options.work, policy)
    models = {}
    for name in SIZES:
        models[name] = [reward_model(options.work, start, name, seed) for seed in SEEDS]
        found[name] = [report_of(options.work, name, seed, run) for seed, run in zip(SEEDS, models[name])]
    found["best of n"] = best_of(options.work, policy, models)
    write(options.out, found)
    return 0


def policy_model(work):
    """The Run of a model that sorts six digits, but not well."""
    folder = work / "policy"
    if not finetuning.finished(folder, POLICY_STEPS):
        base = finetuning.base_model(work / "base")
        say("the policy")
        model = dataclasses.replace(base.model_config, vocab_size=CHAT.vocab_size)
        config = dataclasses.replace(
            FINE_TUNING, steps=POLICY_STEPS, **LEARNING, device="cpu", dtype="float32", save_every=0, eval_every=50
        )
        data, golden = (
            conversations.tokenized([told(side, count)], CHAT, WING.encode, model.context)
            for side, count in (("train", POLICY_EXAMPLES), ("held_out", 100))
        )
        fine_tune(model, config, SFTConfig(), data, golden, base.params, folder, report=Progress(POLICY_STEPS))
    return checkpoint.load(folder, "float32")


def start_model(work):
    """The Run that reward models begin as: fine-tuned on enough examples to sort six digits (`finetuning.py`)."""
    kind, name, seed = "masking", "prompts count 0", 0
    finetuning.run(work, finetuning.base_model(work / "base"), kind, name, seed)
    return checkpoint.load(finetuning.folder_of(work, kind, name, seed), "float32")


def told(side, count):
    """Examples of the task as conversations."""
    return conversations.examples(TASK.name, count, 0, side)


def policy_facts(work, policy):
    """How often the policy is right on held-out prompts, by its likeliest answer and sampled."""
    return kept(work / "policy" / "facts.json", lambda: {
        name: value for name, value in report.judged(SPEAKER, policy, told("held_out", ASKED), samples=8)[1].items()
        if name in ("exact", "pass@1", "pass@8")
    })  # fmt: skip


def reward_model(work, start, name, seed):
    """The Run of a reward model, trained now unless it is there."""
    folder = work / f"{name.replace(' ', '-')}-{seed}"
    pairs, steps = SIZES[name]
    if not finetuning.finished(folder, steps):
        say(f"{name}, seed {seed}")
        config = dataclasses.replace(
            TRAINING["RewardConfig"], steps=steps, **LEARNING, seed=seed, device="cpu", dtype="float32",
            save_every=0, eval_every=max(50, steps // 10),
        )  # fmt: skip
        data = Comparisons(compared("train", pairs, seed), compared("held_out", 200, 100))
        train_reward(start, config, RewardConfig(centring=CENTRING), data, folder, report=Progress(steps))
        pictures.training(rows_of(folder), folder / "training_curve.png", f"Reward model, {name}, seed {seed}")
    return checkpoint.load(folder, "float32")


def rows_of(folder):
    from numpy_ref import log

    return log.read_rows(folder / log.NAME)


def compared(side, count, seed):
    """Graded pairs as a model reads them."""
    return encoded(graded(TASK, side, count, seed, margins=True), CHAT, WING.encode, 64)


def report_of(work, name, seed, run):
    """The measures of a reward model on held-out pairs, the same for all."""
    folder = work / f"{name.replace(' ', '-')}-{seed}"

    def measure():
        found = judging.measured(SPEAKER, [run], compared("held_out", JUDGED, 7))
        last = rows_of(folder)[-1]
        return found | {"steps": run.step, "seconds": last["time"], "train_accuracy": last["accuracy"], "tokens": run.tokens}

    return kept(folder / "judged.json", measure)


def best_of(work, policy, models):
    """The best of n by one model of few pairs, by the three of them, and by each model of many pairs."""
    few, many = models["few pairs"], models["many pairs"]
    choices = {"one model of few pairs": ([few[0]], "mean"), "three of few pairs, their mean": (few, "mean")}
    choices |= {"three of few pairs, the worst": (few, "worst"), "one model of many pairs": ([many[0]], "mean")}
    drawn, found = [], {}
    for name, (runs, rule) in choices.items():

        def measure(runs=runs, rule=rule):
            if not drawn:
                say("the policy answers")
                drawn.extend(judging.sampled_answers(SPEAKER, policy, TASK, PROMPTS, SAMPLES, policy.model_config.context, 1))
            return judging.best_of_answers(SPEAKER, runs, *drawn, rule)

        found[name] = kept(work / f"best-{name.replace(' ', '-').replace(',', '')}.json", measure)
    return found


def kept(path, make):
    """The JSON of a file, made now unless it is there."""
    if not path.exists():
        found = make()
        replace(path, lambda file: file.write(json.dumps(found).encode()))
    return json.loads(path.read_text())


# -- the report ---------------------------------------------------------------------------------------------------


def write(out, found):
    """results.json, pictures and report.md in the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    replace(out / "results.json", lambda file: file.write((json.dumps(found, indent=1) + "\n").encode()))
    draw(out, found)
    text = ["# Reward models that work, and where they stop", "", words(found), "", table(found), "", ACCURACY, ""]
    text += ["![calibration](calibration.png)", "", "![accuracy](accuracy.png)", "", "## Best of n", "", BEST, "", curves(found)]
    text += ["", "![best of n](best_of_n.png)"]
    replace(out / "report.md", lambda file: file.write(("\n".join(text) + "\n").encode()))
    print(out / "report.md")


ACCURACY = (
    "Calibration is the expected error of sigmoid(|r_c - r_r|) as the chance of being right, in ten bins. Pairs are two "
    "answers to one prompt with 0 to 4 mistakes each (Levenshtein), never equally many; their margin is the difference of the "
    "share that is right."
)
BEST = (
    f"The policy answers {PROMPTS} held-out prompts {SAMPLES} times at temperature 1. Worth is the share of an answer that is "
    "right; all choices of n of the answers count. Where the curve falls while the model's reward rises, the reward model is "
    "over-optimised. An ensemble's models are brought to one scale first."
)


def words(found):
    policy = found["policy"]
    return (
        f"The policy has {found['parameters']:,} parameters (bytes; 2 layers of width 64, the architecture of Llama) and "
        f"{POLICY_EXAMPLES} examples of sorting six digits behind it: greedy it is right on {policy['exact']:.1%} of held-out "
        f"prompts, sampled on {policy['pass@1']:.1%}, in one of eight samples on {policy['pass@8']:.1%}. Reward models begin as "
        f"the same model fine-tuned on 5,000 examples, with a new head. AdamW, batches of {LEARNING['batch']} pairs, centring {CENTRING}; {JUDGED:,} held-out pairs. "
        f"{found['environment'].get('cpu', 'CPU')}. Written by `python -m bench.reward_models`."
    )


def table(found):
    """A row for each size, with every seed."""
    lines = [["training pairs", "steps", "held-out pairs in the right order (seeds)", "mean", "calibration error (seeds)"], ["---:"] * 5]
    for name, (pairs, steps) in SIZES.items():
        reports = found[name]
        right = [one["accuracy"] for one in reports]
        errors = ", ".join(f"{one['calibration']['error']:.3f}" for one in reports)
        lines.append([f"{pairs:,}", steps, ", ".join(f"{value:.1%}" for value in right), f"**{statistics.mean(right):.1%}**", errors])
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def curves(found):
    """True worth, share of right answers and reward for each n."""
    numbers = next(iter(found["best of n"].values()))["n"]
    lines = [["chosen by", "", *(f"n = {n}" for n in numbers)], ["---", "---", *["---:"] * len(numbers)]]
    for name, one in found["best of n"].items():
        lines += [[name, "worth", *(f"{value:.3f}" for value in one["worth"])], ["", "right", *(f"{value:.1%}" for value in one["correct"])]]
    one = next(iter(found["best of n"].values()))
    lines.append(["the truth", "worth", *(f"{value:.3f}" for value in one["oracle"])])
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def draw(out, found):
    """The three pictures."""
    lines = {}
    for name in SIZES:
        one = found[name][0]["calibration"]
        lines[f"{SIZES[name][0]:,} pairs"] = [np.array(one[key]) for key in ("confidence", "accuracy", "count", "error")]
    pictures.calibration(lines, out / "calibration.png", "Calibration of reward models, seed 0")
    edges = found["many pairs"][0]["margins"]["edges"]
    bars = {f"{SIZES[name][0]:,} pairs": (one["accuracy"], one["pairs"]) for name in SIZES for one in [found[name][0]["margins"]]}
    pictures.accuracy(bars, edges, out / "accuracy.png", "Pairs in the right order, by their margin, seed 0")
    best = {name: (one["worth"], one["reward"], one["oracle"]) for name, one in found["best of n"].items()}
    pictures.over_optimisation(best, next(iter(found["best of n"].values()))["n"], out / "best_of_n.png")


if __name__ == "__main__":
    sys.exit(main())
