"""What is known of a reward model after training: numbers, tables and pictures, from the wings' measures."""

import json
from pathlib import Path

import numpy as np

from numpy_ref.commands import decoded
from numpy_ref.config import SampleConfig
from numpy_ref.data import chat_format
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.reward import pictures
from numpy_ref.reward.preferences import worth
from numpy_ref.rl.parts import policy_of
from numpy_ref.sft.report import answered
from numpy_ref.tasks.task import closeness, examples, score
from numpy_ref.tokenizer_commands import check_same

DEFINITION = "words, tables and pictures: the wings measure"

REPORT, CALIBRATION, ACCURACY, BEST_OF = "judged.json", "calibration.png", "accuracy.png", "best_of_n.png"
GROUPS = 5  # of pairs by their margins, of about as many pairs each
ROOM = 8  # tokens that an answer may have beyond the longest right one


def opened_reward_model(wing, path, options):
    """The Run of a reward model. Raises UserError for a model of text."""
    run = wing.load(path, device=wing.choose_device(getattr(options, "device", "auto")))
    if run.model_config.output != "reward":
        raise UserError(f"{path} is a model of text, not a reward model; give the run folder of `reward`")
    if chat_format.read(path) is None:
        raise UserError(f"{path} lacks its chat.json; give the run folder that `reward` wrote")
    check_same(wing, path)
    return run


def opened_policy(wing, path, options):
    """The Run of a model that answers, in the tokens of the reward models. Raises UserError for one that does not."""
    run = wing.load(path, device=wing.choose_device(getattr(options, "device", "auto")))
    if run.model_config.output in ("value", "critic"):
        run = policy_of(run)
    if run.model_config.output != "tokens" or chat_format.read(path) is None:
        raise UserError(f"--policy {path} answers no prompts; give the run folder of `sft`, `dpo` or reinforcement learning")
    check_same(wing, path)
    if chat_format.read(path) != wing.chat:
        raise UserError(f"--policy {path} ends its turns by other ids than the reward model does; train it on the policy's format")
    return run


def measured(wing, runs, comparisons, rule="mean", k=1.0):
    """The measures of one or several reward models on Comparisons, as what JSON can carry."""
    texts = [text for one in comparisons for text in one.texts[:2]]
    rewards = judge_together(wing, runs, texts, rule, k).reshape(-1, 2)
    lead = rewards[:, 0] - rewards[:, 1]
    fair = np.array([not one.tie for one in comparisons])
    if not fair.any():
        raise UserError("all comparisons are ties; give some in which one answer is better")
    margins = np.round([one.margin for one in comparisons], 9)[fair]  # equal ones, however they were computed
    lead = wing.from_numpy(lead[fair])
    confidence, accuracy, count, error = (wing.to_numpy(value) for value in wing.calibration(lead))
    edges = np.unique([*np.quantile(margins, np.arange(GROUPS) / GROUPS, method="lower"), np.nextafter(margins.max(), np.inf)])
    share, pairs = (wing.to_numpy(value) for value in wing.accuracy_by(lead, *map(wing.from_numpy, (margins, edges))))
    right = float(np.mean((np.sign(wing.to_numpy(lead)) + 1) / 2))
    return {
        "pairs": int(fair.sum()), "ties": int((~fair).sum()), "accuracy": right, "lead": float(wing.to_numpy(lead).mean()),
        "reward": {"mean": float(rewards.mean()), "deviation": float(rewards.std())},
        "calibration": {"confidence": confidence.tolist(), "accuracy": accuracy.tolist(), "count": count.tolist(), "error": float(error)},
        "margins": {"edges": edges.tolist(), "accuracy": share.tolist(), "pairs": pairs.tolist()} if margins.any() else None,
    }  # fmt: skip


def judge_together(wing, runs, texts, rule="mean", k=1.0):
    """The rewards (N,) float64 of texts, of one model or of several as ``ensemble`` makes one of them.

    Models of an ensemble are first brought to the same scale, each by its own mean and deviation on these texts.
    """
    rows = [np.asarray(wing.to_numpy(wing.judge_texts(run.params, texts, run.model_config)), np.float64) for run in runs]
    if len(rows) == 1:
        return rows[0]
    rows = [(row - row.mean()) / (row.std() + 1e-8) for row in rows]
    return np.asarray(wing.to_numpy(wing.ensemble(wing.from_numpy(np.stack(rows)), rule, k)))


def best_of(wing, policy, runs, task, prompts, samples, rule="mean", k=1.0, seed=0):
    """What the best of n answers of a policy is worth, by the models' reward, by the truth, and by chance.

    Answers are those of ``sampled_answers``. Returns the measures of ``best_of_answers`` and what was asked.
    """
    context = min(run.model_config.context for run in (policy, *runs))
    answers = sampled_answers(wing, policy, task, prompts, samples, context, seed)
    found = best_of_answers(wing, runs, *answers, rule, k)
    return found | {"prompts": prompts, "samples": samples, "task": task.name}


def sampled_answers(wing, policy, task, prompts, samples, context, seed=0):
    """(texts, worth, correct) of so many samples for each of so many held-out prompts, at temperature 1.

    texts: ids of each conversation as they were drawn, those of a prompt together; worth and correct: (prompts, samples).
    Raises UserError where no answer fits the context.
    """
    chosen = examples(task, "held_out", prompts, seed)
    asked = [wing.chat.prompt([{"role": "user", "content": one.prompt}], wing.encode) for one in chosen]
    room = context - max(map(len, asked)) - 1
    if room < 1:
        raise UserError(f"the prompts of {task.name} fill a context of {context}; take models with a larger one")
    room = min(room, max(len(wing.encode(one.answer)) for one in chosen) + ROOM)
    settings = [SampleConfig(tokens=room, seed=seed * 10**6 + i) for i in range(prompts * samples)]
    rows = answered(wing, policy, [ids for ids in asked for _ in range(samples)], settings)
    texts, truth, right = [], [], []
    for i, row in enumerate(rows):
        one, ended = chosen[i // samples], len(row) < room
        answer = wing.chat.said(row, lambda ids: decoded(wing, ids))
        texts.append(np.concatenate((asked[i // samples], row, [wing.chat.end] * ended)).astype(np.int64))
        truth.append(worth(task, one, answer) if ended else closeness(one, answer, False))
        right.append(score(task, one, answer, ended))
    return texts, *(np.array(values).reshape(prompts, samples) for values in (truth, right))


def best_of_answers(wing, runs, texts, truth, right, rule="mean", k=1.0):
    """{"n": [...], "worth": [...], "correct": [...], "reward": [...], "oracle": [...]} of ``sampled_answers``: what the best
    of n by the models' reward is worth, and in "oracle" what the truly best is."""
    rewards = judge_together(wing, runs, texts, rule, k).reshape(truth.shape)
    numbers = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n <= truth.shape[1]]

    def curve(proxy, values):
        arrays = wing.from_numpy(proxy), wing.from_numpy(values)
        return [float(wing.best_of_n(*arrays, n)) for n in numbers]

    return {
        "n": numbers, "kl": [pictures.kl_of_best_of(n) for n in numbers], "worth": curve(rewards, truth),
        "correct": curve(rewards, right), "reward": curve(rewards, rewards), "oracle": curve(truth, truth),
    }  # fmt: skip


def show(report, curves, as_json):
    """Print the report, as a table or as one JSON object."""
    if as_json:
        print(json.dumps(report | ({"best_of_n": curves} if curves else {})))
        return
    ties = f" and {report['ties']} ties" if report["ties"] else ""
    print(f"held-out pairs     {report['pairs']}{ties}")
    print(f"in the right order {report['accuracy']:.2%}")
    print(f"calibration error  {report['calibration']['error']:.4f}")
    print(f"mean lead          {report['lead']:.3f}")
    if report["margins"]:
        edges = report["margins"]["edges"]
        for low, high, share, pairs in zip(edges, edges[1:], report["margins"]["accuracy"], report["margins"]["pairs"]):
            print(f"  margin {low:.2f} to {high:.2f}  {share:.2%} of {pairs}")
    if curves:
        print("best of n   true worth   correct   reward")
        for n, value, right, reward in zip(curves["n"], curves["worth"], curves["correct"], curves["reward"]):
            print(f"{n:>9}   {value:>10.4f}   {right:>7.4f}   {reward:>6.3f}")


def write(folder, report, curves):
    """The report as JSON and its pictures, in a folder."""
    folder = Path(folder)
    text = json.dumps(report | ({"best_of_n": curves} if curves else {}), indent=1) + "\n"
    replace(folder / REPORT, lambda file: file.write(text.encode()))
    found = report["calibration"]
    pictures.calibration({"reward model": [np.array(found[name]) for name in ("confidence", "accuracy", "count", "error")]}, folder / CALIBRATION)
    if report["margins"]:
        margins = report["margins"]
        pictures.accuracy({"reward model": (margins["accuracy"], margins["pairs"])}, margins["edges"], folder / ACCURACY)
    if curves:
        lines = {"chosen by the reward model": (curves["worth"], curves["reward"], curves["oracle"])}
        pictures.over_optimisation(lines, curves["n"], folder / BEST_OF)
