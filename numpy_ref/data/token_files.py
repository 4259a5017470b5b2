"""A corpus as two files of tokens that training reads through a memory map, however long they are.

    folder/train.bin, folder/validation.bin    token ids, little-endian, one after the other; nothing else
    folder/data.json                           what they are: source, dtype, tokens, bytes and sha256 of each side

Every document ends in a blank line. Bytes are counted on the text before the tokenizer, so that bits per byte compare
across tokenizers: loss per token / ln 2 * tokens / bytes.
"""

import contextlib
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numpy_ref import files
from numpy_ref.data import corpus
from numpy_ref.data.split import deduplicated, split
from numpy_ref.errors import UserError

DEFINITION = "a file format"

SIDES = ("validation", "train")
FORMAT = 1  # goes up when the files or the choice of their text change, so that old ones are made anew
END = "\n\n"  # after every document
PROBE = 1 << 16  # characters of text by which a tokenizer is told from another


@dataclass(frozen=True)
class Dataset:
    """Tokens of both sides, memory-mapped, read-only: ids (tokens,). ``header`` is what data.json says."""

    train: np.ndarray
    validation: np.ndarray
    train_bytes: int
    validation_bytes: int
    header: dict

    def side(self, name):
        """(ids (tokens,), bytes of text per token) of "train" or "validation"; the second gives bits per byte."""
        if name not in SIDES:
            raise UserError(f"split={name!r} is not allowed; it must be one of {', '.join(SIDES)}")
        tokens, size = getattr(self, name), getattr(self, f"{name}_bytes")
        return tokens, size / len(tokens)


def prepare(source, folder, encode, dtype, share=0.1, progress=None):
    """Write the tokens of a corpus to ``folder`` unless they are there already, and open them.

    source: what ``corpus.documents`` takes. encode: the tokenizer, str -> ids (tokens,), called for one document at
    a time. dtype: integers wide enough for every id. share: of the bytes held out. progress(done, total): called as
    documents are done, in bytes of the source. Files are reused when source, documents (names, sizes, times of change),
    share, dtype and tokenizer are the same. Returns a Dataset. Raises UserError for a source that gives no
    text for one of the sides, for ids beyond the dtype, and when the folder can't be written.
    """
    folder, dtype = Path(folder), _little_endian(dtype)
    found = corpus.documents(source)
    train, held_out = split(found, share)
    header = {"format": FORMAT, "source": str(source), "share": share, "dtype": dtype.name}
    header |= {"documents": corpus.fingerprint(found), "tokenizer": _probe(encode, found[0])}
    with contextlib.suppress(UserError):
        ready = open_tokens(folder)
        if {key: ready.header.get(key) for key in header} == header:
            return ready
    _remove(folder / "data.json")  # from here on the folder holds no complete data
    report = _counted(sum(document.size for document in found), progress)
    for side, group in itertools.groupby(deduplicated(train, held_out), key=lambda item: item[0]):
        texts = ((report(document), text + END) for _, document, text in group)
        header[side] = _write(folder / f"{side}.bin", (text for _, text in texts), encode, dtype)
    for side in SIDES:
        if side not in header:
            raise UserError(
                f"{str(source)!r} has no {side} text once repeated paragraphs are left out; give more text that differs"
            )
    header["held_out"] = [document.name for document in held_out]
    content = (json.dumps(header, indent=1) + "\n").encode()
    files.replace(folder / "data.json", lambda file: file.write(content))
    report(None)
    return open_tokens(folder)


def open_tokens(folder):
    """The Dataset that ``prepare`` wrote to ``folder``. Raises UserError when it is missing or damaged."""
    folder = Path(folder)
    try:
        header = json.loads((folder / "data.json").read_text())
        dtype = _little_endian(header["dtype"])
        sides = {}
        for side in SIDES:
            path, count = folder / f"{side}.bin", header[side]["tokens"]
            if path.stat().st_size != count * dtype.itemsize:
                raise UserError(f"{str(path)!r} does not hold the {count} tokens it should; delete it and train again")
            sides[side] = np.memmap(path, dtype, mode="r", shape=(count,))
            sides[f"{side}_bytes"] = header[side]["bytes"]
    except OSError as error:
        reason = f"{str(error.filename or folder)!r}: {error.strerror}"
        raise UserError(f"no prepared data ({reason}); name a folder that training has written") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{str(folder / 'data.json')!r} is damaged; delete it and train again") from None
    return Dataset(header=header, **sides)


def _write(path, texts, encode, dtype):
    """Encode and write the texts one by one; what data.json says about the file."""
    counts = {"tokens": 0, "bytes": 0, "documents": 0}
    digest = hashlib.sha256()

    def write(file):
        for text in texts:
            content = _ids(encode, text, dtype).tobytes()
            file.write(content)
            digest.update(content)
            counts["tokens"] += len(content) // dtype.itemsize
            counts["bytes"] += len(text.encode())
            counts["documents"] += 1

    files.replace(path, write)
    return counts | {"sha256": digest.hexdigest()}


def _ids(encode, text, dtype):
    ids = np.asarray(encode(text))
    limit = np.iinfo(dtype).max
    if ids.size and not (0 <= ids.min() and ids.max() <= limit):
        given = f"token ids {ids.min()} to {ids.max()}"
        raise UserError(f"{given} do not fit {dtype.name} (0 to {limit}); take a wider dtype")
    return ids.astype(dtype)


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
