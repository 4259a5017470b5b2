"""Texts out of records: JSONL files, one object with a "text" a line, and data sets of the package ``datasets``."""

import hashlib
import json
from pathlib import Path

from numpy_ref.errors import UserError

DEFINITION = "reading text: no arithmetic"

FIELD = "text"
SUFFIX = ".jsonl"
LONGEST = 1 << 24  # bytes of a line
HUGGING_FACE = "hf:"


def lines(path):
    """Yield (number from 1, first byte, size in bytes) of every line of a JSONL file that is not blank.

    Raises UserError for a line too long to be held in memory.
    """
    with open(path, "rb") as file:
        start, number = 0, 0
        while line := file.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise UserError(f"{str(path)!r}, line {number} is longer than {LONGEST >> 20} MiB; cut the text up")
            if line.strip():
                yield number, start, len(line)
            start += len(line)


def text_of(line, path, number):
    """The text of one line (bytes), with Unix line ends. Raises UserError that names the line where it has none."""
    place = f"{str(path)!r}, line {number}"
    try:
        record = json.loads(line.decode("utf-8-sig"))
        text = record[FIELD]
        text.encode()
        return text.replace("\r\n", "\n")
    except UnicodeError:
        raise UserError(f"{place} is not valid Unicode; save the file as UTF-8 without lone surrogates") from None
    except (ValueError, RecursionError):
        raise UserError(f"{place} is not JSON; every line has to be one object") from None
    except (KeyError, TypeError, IndexError, AttributeError):
        raise UserError(f'{place} has no "{FIELD}" that is a text; every line has to be {{"{FIELD}": "..."}}') from None


def hugging_face(source, make):
    """The documents of ``hf:NAME`` or ``hf:NAME:CONFIGURATION``: the training split's text column, one a row.

    ``make(name, size, stamp, load)`` makes a document. Raises UserError where the package is missing or can't load it.
    """
    name, _, configuration = source.removeprefix(HUGGING_FACE).partition(":")
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"--data {source} needs the package datasets, which is not here; install it") from None
    try:
        rows = load_dataset(name, configuration or None, split="train")
    except Exception as error:  # of many classes: not found, no network, another split
        raise UserError(f"--data {source} can't be loaded: {type(error).__name__}: {error}") from None
    if FIELD not in rows.column_names:
        raise UserError(f"--data {source} has no column {FIELD!r}, only {', '.join(rows.column_names)}")
    found = []
    for number in range(len(rows)):
        content = rows[number][FIELD].encode("utf-8", "ignore")
        if content.strip():
            stamp = hashlib.sha256(content).hexdigest()
            found.append(make(f"row {number:012d}", len(content), stamp, lambda number=number: _row(rows, number)))
    if not found:
        raise UserError(f"--data {source} holds no text")
    return found


def _row(rows, number):
    return rows[number][FIELD].encode("utf-8", "ignore").decode().replace("\r\n", "\n")


def is_records(path):
    """Whether a file is read line by line, by its name."""
    return Path(path).suffix == SUFFIX
