"""A corpus as files of tokens that training reads through memory maps, however long they are.

    folder/train-00000.bin, ...         token ids, in files of a fixed size (`shards.py`); validation-00000.bin, ...
    folder/train-00000.ends, ...        where documents end
    folder/data.json                    what they are: source, tokenizer, dtype; tokens, bytes, documents and, for each
                                        file, the sha256 of both sides
    folder/progress.json                the finished files, while the others are being written: what is killed goes on

Every document ends in a blank line. Bytes are counted on the text before the tokenizer, so that bits per byte compare
across tokenizers: loss per token / ln 2 * tokens / bytes.
"""

import contextlib
import functools
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numpy_ref import files
from numpy_ref.data import corpus, shards
from numpy_ref.data.split import deduplicated, split
from numpy_ref.errors import UserError

DEFINITION = "a file format"

SIDES = ("validation", "train")
FORMAT = 2  # goes up when the files or the choice of their text change, so that old ones are made anew
INDEX, PROGRESS = "data.json", "progress.json"
LARGEST = 1 << 26  # bytes of either: 200,000 shards, a terabyte of tokens
CHECKED = 1 << 30  # bytes of tokens that are compared with their checksums whenever they are opened
END = "\n\n"  # after every document
PROBE = 1 << 16  # characters of text by which a tokenizer is told from another


@dataclass(frozen=True)
class Dataset:
    """Tokens of both sides, memory-mapped, read-only: ids (tokens,). ``header`` is what data.json says.

    Document d of a side is tokens[borders[d] : borders[d + 1]]; borders (documents + 1,), None in old folders.
    """

    train: np.ndarray
    validation: np.ndarray
    train_bytes: int
    validation_bytes: int
    header: dict
    train_borders: np.ndarray | None = None
    validation_borders: np.ndarray | None = None

    def side(self, name):
        """(ids (tokens,), bytes of text per token) of "train" or "validation"; the second gives bits per byte."""
        if name not in SIDES:
            raise UserError(f"split={name!r} is not allowed; it must be one of {', '.join(SIDES)}")
        tokens, size = getattr(self, name), getattr(self, f"{name}_bytes")
        return tokens, size / len(tokens)


def prepare(source, folder, encode, dtype, share=0.1, progress=None, encode_all=None, tokenizer=None):
    """Write the tokens of a corpus to ``folder`` unless they are there already, and open them.

    source: what ``corpus.documents`` takes. encode: the tokenizer, str -> ids (tokens,), called for one document at
    a time. dtype: integers wide enough for every id. share: of the bytes held out. progress(done, total): called as
    documents are done, in bytes of the source. encode_all: the same for an iterable of texts, if that is faster;
    tokenizer: what tells it from others (None: what it makes of some text). Files are reused when source, documents
    (names, sizes, times of change), share, dtype and tokenizer are the same; a call that was killed goes on with the
    file it was writing. Returns a Dataset. Raises UserError for a source that gives no text for one of the sides, for
    ids beyond the dtype, and when the folder can't be written.
    """
    folder, dtype = Path(folder), _little_endian(dtype)
    found = corpus.documents(source)
    train, held_out = split(found, share)
    header = {"format": FORMAT, "source": str(source), "share": share, "dtype": dtype.name}
    header |= {"documents": corpus.fingerprint(found), "tokenizer": tokenizer or _probe(encode, found[0])}
    with contextlib.suppress(UserError):
        ready = open_tokens(folder)
        if {key: ready.header.get(key) for key in header} == header:
            return ready
    finished = _finished(folder, header, dtype)
    report = _counted(sum(document.size for document in found), progress)
    encode_all, written = encode_all or functools.partial(map, encode), {}
    for side, group in itertools.groupby(deduplicated(train, held_out), key=lambda item: item[0]):
        texts = ((report(document), text + END) for _, document, text in group)

        def record(done, side=side):
            finished[side] = done
            _write_json(folder / PROGRESS, {"header": header, "shards": finished})

        texts = (text for _, text in texts)
        written[side] = shards.write(folder, side, texts, encode_all, dtype, finished.get(side, []), record)
    for side in SIDES:
        if side not in written:
            _start_anew(folder)
            raise UserError(
                f"{str(source)!r} has no {side} text once repeated paragraphs are left out; give more text that differs"
            )
        header[side] = {name: sum(shard[name] for shard in written[side]) for name in shards.FIELDS}
        header[side]["shards"] = written[side]
    header["held_out"] = [document.name for document in held_out]
    _write_json(folder / INDEX, header)
    _remove(folder / PROGRESS)
    report(None)
    return open_tokens(folder, check=False)


def open_tokens(folder, check=True):
    """The Dataset that ``prepare`` wrote to ``folder``. Raises UserError when it is missing or damaged.

    ``check``: compare checksums too, for up to a gigabyte of tokens; sizes are compared always.
    """
    folder = Path(folder)
    try:
        header = _read_json(folder / INDEX)
        dtype = _little_endian(header["dtype"])
        opened = _opened_old if header["format"] == 1 else _opened
        check = check and sum(header[side]["tokens"] * dtype.itemsize for side in SIDES) <= CHECKED
        sides = {}
        for side in SIDES:
            sides[side], sides[f"{side}_borders"] = opened(folder, side, header[side], dtype, check)
            sides[f"{side}_bytes"] = header[side]["bytes"]
            if not (type(header[side]["bytes"]) is int and len(sides[side])):
                raise ValueError(side)
        if not isinstance(header["source"], str):
            raise ValueError("source")
    except OSError as error:
        reason = f"{str(error.filename or folder)!r}: {error.strerror}"
        raise UserError(f"no prepared data ({reason}); name a folder that training has written") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        raise UserError(f"{str(folder / INDEX)!r} is damaged; delete it and train again") from None
    return Dataset(header=header, **sides)


def _opened(folder, side, header, dtype, check):
    return shards.open_shards(folder, side, header["shards"], dtype, check)


def _opened_old(folder, side, header, dtype, check):
    """The single file of a folder from before there were shards."""
    path, count = folder / f"{side}.bin", header["tokens"]
    if path.stat().st_size != count * dtype.itemsize:
        raise UserError(f"{str(path)!r} does not hold the {count} tokens it should; delete it and train again")
    return np.memmap(path, dtype, mode="r", shape=(count,)), None


def _finished(folder, header, dtype):
    """{side: descriptions of the shards} of a call with this header that was killed; nothing otherwise."""
    try:
        progress = _read_json(folder / PROGRESS)
        if progress["header"] == header:
            for side, done in progress["shards"].items():
                shards.check_finished(folder, side, done, dtype)
            return progress["shards"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
        pass
    _start_anew(folder)
    return {}


def _start_anew(folder):
    """From here on the folder holds no complete data."""
    for name in (INDEX, PROGRESS):
        _remove(folder / name)
    for side in SIDES:
        shards.remove(folder, side)


def _write_json(path, value):
    content = (json.dumps(value | {"sha256": _seal(value)}, indent=1) + "\n").encode()
    files.replace(path, lambda file: file.write(content))


def _seal(value):
    """The sha256 of a JSON object without the field of that name."""
    content = {name: part for name, part in value.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_json(path):
    if path.stat().st_size > LARGEST:
        raise ValueError("longer than any index")
    value = json.loads(path.read_text(encoding="utf-8"))
    if value.get("format") != 1 and value["sha256"] != _seal(value):
        raise ValueError("altered")
    return value


def _little_endian(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        raise UserError(f"dtype={dtype.name} can't hold token ids; take uint8, uint16 or int32")
    return dtype.newbyteorder("<")


def _probe(encode, document):
    """A tokenizer is told by what it makes of the beginning of the first document."""
    ids = np.asarray(encode(document.text[:PROBE])).astype("<i8")
    return hashlib.sha256(ids.tobytes()).hexdigest()


def _remove(path):
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise files.refusal(path, error) from None


def _counted(total, progress):
    """report(document) passes the bytes so far to ``progress``; report(None) says that all is done."""
    done = 0

    def report(document):
        nonlocal done
        done = done + document.size if document else total
        if progress:
            progress(done, total)

    return report
