"""Answers of a model beside the gold ones: a row for each example, the metrics over all, and a table that one can read."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from numpy_ref.commands import decoded
from numpy_ref.config import SampleConfig
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.sft import metrics
from numpy_ref.sft.conversations import tokenized

DEFINITION = "words and counts: the wings answer"

AT_ONCE = 64  # prompts
MEASURES = ("exact", "exact_match", "f1", "rouge_l")
NAMES = {
    "exact": "exact, to the letter and ended", "exact_match": "exact match, normalised", "f1": "token F1", "rouge_l": "ROUGE-L",
    "bleu": "BLEU, corpus", "perplexity": "perplexity of the gold answers", "ended": "answers that ended by themselves",
}  # fmt: skip
SHOWN, CELL = 12, 28  # examples in the table, characters of a cell


def judged(wing, run, examples, sample=None, samples=0, tokens=None, batch=AT_ONCE):
    """(rows, summary) of the model's answers to the prompts of some Examples.

    Every example is answered greedily, and ``samples`` times as ``sample`` (a SampleConfig) says, each from draws of its
    own. An answer may have ``tokens`` (twice as many as the longest gold one), as far as the context goes.
    rows: one dict an example. summary: the mean of each metric, BLEU and perplexity over all, pass@k of the samples.
    Raises UserError for a prompt that leaves no room for an answer.
    """
    chat, decode = wing.chat, lambda ids: decoded(wing, ids)
    prompts = [chat.prompt(one.prompt, wing.encode) for one in examples]
    longest = max(len(wing.encode(one.answer)) for one in examples)
    rooms = [_room(prompt, one, run.model_config, tokens or 2 * longest + 8) for prompt, one in zip(prompts, examples)]
    losses, count = gold_losses(wing, run, examples, batch)
    greedy = [SampleConfig(tokens=room, greedy=True) for room in rooms]
    rows = []
    for one, answer, room, loss, weight in zip(
        examples, answered(wing, run, prompts, greedy, batch), rooms, losses, count, strict=True
    ):
        text = chat.said(answer, decode)
        row = {"place": one.place, "prompt": one.prompt[-1]["content"], "gold": one.answer, "answer": text}
        row |= {"ended": len(answer) < room} | {name: getattr(metrics, name)(text, [one.answer]) for name in MEASURES}
        row["exact"] *= row["ended"]  # right would be wrong if it went on
        rows.append(row | {"nats": loss, "tokens": int(weight), "perplexity": _exp(loss / weight)})
    if samples:
        _sample(wing, run, prompts, rooms, rows, sample or SampleConfig(), samples, batch)
    return rows, summary(rows)


def answered(wing, run, prompts, settings, batch=AT_ONCE):
    """The new tokens after each prompt, up to the end of the turn; a SampleConfig for each."""
    found = []
    for first in range(0, len(prompts), batch):
        here = slice(first, first + batch)
        found += wing.generate(run.params, run.model_config, prompts[here], settings[here], stop=(wing.chat.end,))
    return [np.asarray(row) for row in found]


def gold_losses(wing, run, examples, batch=AT_ONCE):
    """Nats and tokens of each example's gold answer, its end included: two lists."""
    config = run.model_config
    whole = tokenized([examples], wing.chat, wing.encode, config.context)
    weights = _last_answers(whole, wing.chat)
    return [
        found.tolist()
        for found in wing.conversation_losses(run.params, config, whole.ids, weights, whole.borders, batch)
    ]


def summary(rows):
    """{metric: value} over all rows."""
    found = {name: sum(row[name] for row in rows) / len(rows) for name in (*MEASURES, "ended")}
    found["bleu"] = metrics.bleu([row["answer"] for row in rows], [[row["gold"]] for row in rows])
    found["perplexity"] = _exp(sum(row["nats"] for row in rows) / sum(row["tokens"] for row in rows))
    if "samples" in rows[0]:
        count, k = len(rows[0]["samples"]), 1
        while k <= count:
            found[f"pass@{k}"] = sum(metrics.pass_at_k(count, row["right"], k) for row in rows) / len(rows)
            k *= 2
    return {name: round(float(value), 6) for name, value in found.items()} | {"examples": len(rows)}


def write(path, rows):
    """The rows as JSONL."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    replace(Path(path), lambda file: file.write(text.encode()))


def table(rows, found):
    """The metrics and some examples, those answered wrongly first, as text in columns."""
    names = NAMES | {name: f"{name} of {len(rows[0]['samples'])} samples" for name in found if name.startswith("pass@")}
    lines = [f"{names[name]:<34}{value:.4f}" for name, value in found.items() if name in names]
    lines = [f"{'examples':<34}{found['examples']}", *lines, ""]
    shown = sorted(rows, key=lambda row: row["exact"])[:SHOWN]
    cells = [("", "prompt", "gold answer", "answer")]
    cells += [
        ("right" if row["exact"] else "wrong", *(_cell(row[key]) for key in ("prompt", "gold", "answer")))
        for row in shown
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        lines + ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    )


def _sample(wing, run, prompts, rooms, rows, sample, samples, batch):
    """Add "samples" and "right", how many of them are exact, to the rows."""
    settings = [
        dataclasses.replace(sample, tokens=room, seed=sample.seed + number * samples + draw)
        for number, room in enumerate(rooms)
        for draw in range(samples)
    ]
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    found = answered(wing, run, repeated, settings, batch)
    for number, row in enumerate(rows):
        own = found[number * samples : (number + 1) * samples]
        row["samples"] = [wing.chat.said(ids, lambda ids: decoded(wing, ids)) for ids in own]
        ended = [len(ids) < rooms[number] for ids in own]
        row["right"] = sum(text == row["gold"] and end for text, end in zip(row["samples"], ended))


def _room(prompt, example, config, tokens):
    """How many tokens the answer may have."""
    room = tokens if config.endless else min(tokens, config.context - len(prompt))
    if room < 1:
        raise UserError(
            f"{example.place}: a prompt of {len(prompt)} tokens leaves no room in the context of {config.context}"
        )
    return room


def _last_answers(whole, chat):
    """Weights (N,) that are 1 for the last answer of each conversation and its end, 0 before."""
    weights = np.zeros(len(whole.ids))
    for first, end in zip(whole.borders[:-1], whole.borders[1:]):
        turn = first + np.flatnonzero(whole.ids[first:end] == chat.control("assistant"))[-1]
        weights[turn + 1 : end] = 1.0
    return weights


def _exp(nats):
    return math.exp(nats) if nats < 700 else math.inf


def _cell(text):
    """A text in one short line."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"
