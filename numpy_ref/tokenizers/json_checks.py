"""What every JSON of a tokenizer is asked before it is believed: kinds of values, ids, names that are given once."""

import json

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.vocabulary import MOST

DEFINITION = "checks of a file format"


def checked_ids(found, what):
    """{str: id}, checked: what a file says about ids is a whole number that could be one."""
    for written, i in found.items():
        if type(i) is not int or not 0 <= i < MOST:
            raise UserError(f"{what} gives {written[:40]!r} the id {str(i)[:40]}; ids are whole numbers below {MOST}")
    return found


def text_of(content, what):
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 (byte {error.start}); the file is damaged") from None


def json_of(content):
    """What a JSON text says. Raises UserError for a name that is given twice: which of both would count?"""

    def once(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is given twice")
        return found

    try:
        found = json.loads(text_of(content, "the file"), object_pairs_hook=once)
        json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError:
        raise UserError("a string has half a surrogate pair; the file is damaged") from None
    except RecursionError:
        raise UserError("it nests too deeply for a tokenizer; the file is damaged") from None
    except ValueError as error:
        raise UserError(f"it is not a JSON text ({error}); the file is damaged") from None


def object_of(value, what):
    if not isinstance(value, dict):
        raise UserError(f"{what} is not a JSON object; the file is damaged or of another kind")
    return value


def list_of(value, what):
    if not isinstance(value, list):
        raise UserError(f"{what} is not a JSON list; the file is damaged or of another kind")
    return value
