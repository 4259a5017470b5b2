"""Instructions and the answers to learn from: JSONL, a conversation a line.

    {"messages": [{"role": "user", "content": "sort 312"}, {"role": "assistant", "content": "123"}]}
    {"prompt": "sort 312", "completion": "123"}            and with it, where wanted, "system": "You sort digits."

A line may say how hard it is, {"difficulty": 3}, for curricula. Other fields are left alone. Whatever can't be learnt
from is refused by file and line.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from numpy_ref.data import chat_format, text_records
from numpy_ref.errors import UserError, shown

DEFINITION = "reading text: no arithmetic"

FIELDS = ("prompt", "completion")


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the assistant; where it comes from, for error messages; how hard it is, if known."""

    messages: tuple
    place: str
    difficulty: float | None = None

    @property
    def prompt(self):
        """The messages before the last answer."""
        return self.messages[:-1]

    @property
    def answer(self):
        """The last answer: the gold response that others are measured against."""
        return self.messages[-1]["content"]


def is_file(source):
    """Whether a source is a file, there or not, and not the name of a task."""
    return Path(source).suffix == ".jsonl" or Path(source).exists()


def read(path, make=None, what="conversations"):
    """The Examples of a JSONL file, in order; or what ``make(line, place)`` makes of its lines, which are ``what``.

    Raises UserError, with file and line number, for a line that is not JSON or no conversation, and for a file that is
    missing or has no line.
    """
    path, make, found = Path(path), make or example, []
    try:
        with open(path, "rb") as file:
            for number, start, size in text_records.lines(path):
                file.seek(start)
                found.append(make(file.read(size), f"{str(path)!r}, line {number}"))
    except OSError as error:
        raise UserError(f"can't read {str(path)!r}: {error.strerror}; give a JSONL file of {what}") from None
    if not found:
        raise UserError(f"the file {str(path)!r} is empty; give a JSONL file of {what}")
    return found


def example(line, place):
    """The Example of one line (str or bytes). Raises UserError that begins with its place."""
    found = record(line, place)
    try:
        messages = _messages(found)
        chat_format.check(messages)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    difficulty = found.get("difficulty")
    if difficulty is not None and not (type(difficulty) in (int, float) and math.isfinite(difficulty)):
        raise UserError(f'{place}: "difficulty" must be a number, got {shown(difficulty)}')
    return Example(tuple({"role": m["role"], "content": m["content"]} for m in messages), place, difficulty)


def of(prompt, completion, place):
    """The Example of a prompt and its answer."""
    return Example(({"role": "user", "content": prompt}, {"role": "assistant", "content": completion}), place)


def record(line, place):
    """The JSON object of one line (str or bytes). Raises UserError that begins with its place."""
    try:
        found = json.loads(line.decode("utf-8-sig") if isinstance(line, bytes) else line)
    except UnicodeError:
        raise UserError(f"{place} is not valid Unicode; save the file as UTF-8") from None
    except (ValueError, RecursionError):
        raise UserError(f"{place} is not JSON; every line has to be one object") from None
    if not isinstance(found, dict):
        raise UserError(f"{place}: every line has to be one object, got {shown(found)}")
    return found


def _messages(record):
    """The messages of a record in either form."""
    if "messages" in record:
        if any(name in record for name in FIELDS):
            raise UserError('it has "messages" and "prompt" or "completion"; give one of both')
        return record["messages"]
    for name in FIELDS:
        if not isinstance(record.get(name), str):
            raise UserError(
                f'it has neither "messages" nor a text as "{name}"; give "messages", or "prompt" and "completion"'
            )
    turns = [("user", record["prompt"]), ("assistant", record["completion"])]
    if "system" in record:
        turns.insert(0, ("system", record["system"]))
    return [{"role": role, "content": content} for role, content in turns]
