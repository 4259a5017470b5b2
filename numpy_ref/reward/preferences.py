"""Preferences: prompts with answers that somebody compared. JSONL, one comparison a line.

    {"prompt": "sort 312=", "chosen": "123", "rejected": "132"}          and with it, where wanted, "system": "Be brief."
    {"prompt": "sort 312=", "chosen": "123", "rejected": "321", "margin": 0.5}     how much better; a number of at least 0
    {"prompt": "sort 312=", "chosen": "213", "rejected": "132", "tie": true}       neither is better
    {"prompt": "sort 312=", "ranked": ["123", "132", "321"]}                       any number of answers, best first

Other fields are left alone. Whatever can't be learnt from is refused by file and line.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from numpy_ref.data import chat_format, instructions
from numpy_ref.errors import UserError, shown
from numpy_ref.files import replace
from numpy_ref.tasks.task import Draws, closeness, edits, examples, is_held_out, score

DEFINITION = "reading and writing text: no arithmetic on arrays"

GRADES = 4  # corrupted versions of an answer, each with one edit more


@dataclass(frozen=True)
class Preference:
    """Answers to a prompt, best first. ``margin``: by how much the first of two is better, if somebody said so."""

    prompt: str
    answers: tuple
    margin: float | None = None
    tie: bool = False
    system: str | None = None
    place: str = ""  # where it comes from, for error messages

    @property
    def conversations(self):
        """The messages of each answer's conversation, in the form of ``ChatFormat.encode``."""
        before = [] if self.system is None else [{"role": "system", "content": self.system}]
        before.append({"role": "user", "content": self.prompt})
        return [[*before, {"role": "assistant", "content": answer}] for answer in self.answers]


def read(path):
    """The Preferences of a JSONL file, in order.

    Raises UserError, with file and line number, for a line that is no comparison: not JSON, a field missing or of the
    wrong kind, an empty answer, two answers alike. And for a file that is missing or has no line.
    """
    return instructions.read(path, preference, "comparisons")


def preference(line, place):
    """The Preference of one line (str or bytes). Raises UserError that begins with its place."""
    record = instructions.record(line, place)
    try:
        found = Preference(**_fields(record), place=place)
        for messages in found.conversations:
            chat_format.check(messages)
        return found
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _fields(record):
    for name in ("prompt", "system"):
        if name in record and not isinstance(record[name], str):
            raise UserError(f'"{name}" must be a text, got {shown(record[name])}')
    if "prompt" not in record:
        raise UserError('it has no "prompt"; give "prompt", "chosen" and "rejected", or "prompt" and "ranked"')
    tie, margin = record.get("tie", False), record.get("margin")
    if not isinstance(tie, bool):
        raise UserError(f'"tie" must be true or false, got {shown(tie)}')
    if margin is not None and not (type(margin) in (int, float) and math.isfinite(margin) and margin >= 0):
        raise UserError(f'"margin" must be a number of at least 0, got {shown(margin)}')
    answers = _answers(record)
    if (tie or margin is not None) and len(answers) > 2:
        raise UserError(f'a ranking of {len(answers)} answers has no "tie" and no "margin"; give pairs for that')
    if tie and margin is not None:
        raise UserError("a tie has no margin; leave one of both out")
    margin = None if margin is None else float(margin)
    return {"prompt": record["prompt"], "system": record.get("system"), "answers": answers, "margin": margin, "tie": tie}


def _answers(record):
    """The answers of a record, best first."""
    pair = [name for name in ("chosen", "rejected") if name in record]
    if "ranked" in record:
        if pair:
            raise UserError(f'it has "ranked" and "{pair[0]}"; give a ranking or a pair')
        answers = record["ranked"]
        if not isinstance(answers, list) or len(answers) < 2:
            raise UserError(f'"ranked" must be a list of at least two answers, got {shown(answers)}')
        named = [(f"answer {number}", answer) for number, answer in enumerate(answers, 1)]
    else:
        if len(pair) < 2:
            missing = "rejected" if "chosen" in pair else "chosen"
            raise UserError(f'it has no "{missing}"; give "chosen" and "rejected", or "ranked"')
        named = [(f'"{name}"', record[name]) for name in pair]
    seen = {}
    for name, answer in named:
        if not isinstance(answer, str):
            raise UserError(f"{name} must be a text, got {shown(answer)}")
        if not answer:
            raise UserError(f"{name} is empty: there is no answer to judge")
        if answer in seen:
            raise UserError(f"{seen[answer]} and {name} are the same answer, {shown(answer)}: there is nothing to prefer")
        seen[answer] = name
    return tuple(answer for _, answer in named)


def write(path, preferences):
    """Write Preferences as JSONL."""
    lines = []
    for one in preferences:
        record = {"prompt": one.prompt} | ({"system": one.system} if one.system is not None else {})
        if len(one.answers) == 2:
            record |= {"chosen": one.answers[0], "rejected": one.answers[1]}
        else:
            record["ranked"] = list(one.answers)
        record |= ({"margin": one.margin} if one.margin is not None else {}) | ({"tie": True} if one.tie else {})
        lines.append(json.dumps(record) + "\n")
    replace(Path(path), lambda file: file.write("".join(lines).encode()))


def split(preferences):
    """(training, held-out) Preferences: a tenth is held out by a hash of the prompt, so that no prompt is on both sides.

    Raises UserError where one side would be empty.
    """
    sides = [], []
    for one in preferences:
        sides[is_held_out(one.prompt)].append(one)
    if not all(sides):
        count = len({one.prompt for one in preferences})
        raise UserError(f"{count} different prompts leave nothing to {'hold out' if sides[0] else 'train on'}; give more, "
                        "or the held-out comparisons in a file of their own (--held-out)")  # fmt: skip
    return sides


def graded(task, side, count, seed=0, answers=2, ties=0.0, margins=False):
    """Synthetic comparisons whose truth is known: answers of a task with fewer and with more mistakes in them.

    Grade 0 is the right answer, grade g has g edits (as many as are needed to mend it, by Levenshtein). The answers to a
    prompt are of different grades and ranked by their ``worth``; of a share ``ties`` of the pairs both are worth the same.
    ``margins``: note how much more the better one is worth.
    ``side``: "train" or "held_out" prompts of the task. Raises UserError for more answers than grades.
    """
    if not 2 <= answers <= GRADES + 1:
        raise UserError(f"{answers} answers of different grades can't be had; give 2 to {GRADES + 1}")
    found = []
    for number, one in enumerate(examples(task, side, count, seed)):
        draws = Draws("graded", task.name, side, seed, number)
        tie = answers == 2 and draws.below(10**6) < ties * 10**6
        ranked = _ranked(task, one, draws, answers, tie)
        margin = worth(task, one, ranked[0]) - worth(task, one, ranked[1]) if margins and len(ranked) == 2 and not tie else None
        found.append(Preference(one.prompt, tuple(ranked), margin, tie, place=f"comparison {number + 1} of {task.name}"))
    return found


def worth(task, example, answer):
    """How good an answer is, 0 to 1: its ``closeness``, or the task's own judge where many answers are right."""
    return closeness(example, answer, ended=True) if task.needs_end else score(task, example, answer, ended=True)


def _ranked(task, example, draws, count, tie):
    """Different answers, best first; all of them of different worth, or for a tie two of the same."""
    while True:
        grades = list(range(min(GRADES, len(example.answer)) + 1))
        if tie:
            chosen = [grades[1 + draws.below(len(grades) - 1)]] * 2
        else:
            chosen = [grades.pop(draws.below(len(grades))) for _ in range(min(count, len(grades)))]
        found = {corrupted(example.answer, grade, task.alphabet, draws) for grade in chosen}
        ranked = sorted(found, key=lambda text: (-worth(task, example, text), text))
        values = {worth(task, example, text) for text in ranked}
        if len(ranked) == len(chosen) and len(values) == (1 if tie else len(chosen)):
            return ranked


def corrupted(answer, count, alphabet, draws):
    """The answer with ``count`` mistakes: replaced, missing, added and exchanged characters; never empty.

    So many edits, and no fewer, lead back to it. ``draws``: ``tasks.task.Draws``.
    """
    while True:
        text = answer
        while edits(answer, text) < count:
            text = _mistake(text, alphabet, draws)
        if text and edits(answer, text) == count:
            return text


def _mistake(text, alphabet, draws):
    """The text with one character replaced, removed or added, or two neighbours exchanged."""
    kind, place = draws.below(4), draws.below(len(text)) if text else 0
    if kind == 0 or not text:
        return text[:place] + draws.choice(alphabet) + text[place:]
    if kind == 1:
        return text[:place] + text[place + 1 :]
    if kind == 2:
        return text[:place] + draws.choice(alphabet) + text[place + 1 :]
    return text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
