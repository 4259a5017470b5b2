"""The sharded checkpoint: a folder of plain bytes that many processes write at once, and any number reads.

    checkpoint-00000400.shards/shard-00000.bin ...  chunks of arrays, one after the other, little-endian, nothing else
    checkpoint-00000400.shards/header.json          what they are, written last: without it the folder does not count

The header is that of ``checkpoint_file`` with two tables on top. "arrays": name -> {"dtype", "shape", "chunks"}, where
a chunk {"offset", "shape", "file", "start", "sha256"} is a box of the array and where its bytes are. "scalars": name ->
whole number. There is no pickle in it, and every chunk that is read is checked against its sum.
"""

import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.files import replace

DEFINITION = "a file format: arrays pass through it unchanged"

FORMAT = 1
HEADER = "header.json"
SUFFIX = ".shards"
DTYPES = ("float32", "float64")
LARGEST_HEADER = 1 << 28  # bytes


def named(folder, step):
    """Where the sharded checkpoint of a step is kept."""
    return Path(folder) / f"checkpoint-{step:08d}{SUFFIX}"


def history(folder):
    """[(step, path)] of the complete sharded checkpoints in a run folder, newest first."""
    found = ((path.stem.removeprefix("checkpoint-"), path) for path in Path(folder).glob(f"checkpoint-*{SUFFIX}"))
    found = ((step, path) for step, path in found if step.isascii() and step.isdigit() and (path / HEADER).is_file())
    return sorted(((int(step), path) for step, path in found), reverse=True)


def prune(folder, step, keep, best):
    """Remove all but the ``keep`` newest up to ``step`` and that of step ``best``; also what a kill left unfinished."""
    stay = [number for number, _ in history(folder) if number <= step][:keep]
    stay = {named(folder, number) for number in (*stay, best) if number is not None}
    for path in Path(folder).glob(f"checkpoint-*{SUFFIX}"):
        if path not in stay:
            remove(path)


def remove(path):
    """Remove a sharded checkpoint, its header first, so that it never looks whole without being so."""
    (path / HEADER).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def write_header(path, header):
    """Write the header, which makes the checkpoint complete."""
    header = {"format": FORMAT, **header}
    header["sha256"] = digest(json.dumps(header, sort_keys=True).encode())
    content = json.dumps(header).encode()
    replace(Path(path) / HEADER, lambda file: file.write(content))


def read_header(path):
    """The header of a sharded checkpoint, checked. Raises UserError when it is missing, damaged or altered."""
    file = Path(path) / HEADER
    try:
        if file.stat().st_size > LARGEST_HEADER:
            raise ValueError("a header beyond all reason")
        header = json.loads(file.read_text("utf-8"))
        given = header.pop("sha256")
        if header["format"] != FORMAT:
            raise UserError(f"{path} has sharded format {header['format']!r}; this version reads format {FORMAT}")
        if given != digest(json.dumps(header, sort_keys=True).encode()):
            raise UserError(f"{file} was altered: its checksum differs; take another checkpoint or train again")
        if not all(_is_array(entry) for entry in header["arrays"].values()) or not all(
            type(value) is int for value in header["scalars"].values()
        ):
            raise ValueError("a table that describes no arrays")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give a run folder") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{file} is truncated or damaged; take another checkpoint or train again") from None
    return header


def _is_array(entry):
    """Whether the chunks of an entry are boxes inside of the array that fill it."""
    shape, filled = entry["shape"], 0
    for chunk in entry["chunks"]:
        offset, size = chunk["offset"], chunk["shape"]
        numbers = [*shape, *offset, *size, chunk["start"]]
        if any(type(number) is not int or number < 0 for number in numbers):
            return False
        if not len(offset) == len(size) == len(shape) or any(o + s > n for o, s, n in zip(offset, size, shape)):
            return False
        if not re.fullmatch(r"shard-\d{5}\.bin", chunk["file"]):  # a name that can't lead out of the folder
            return False
        filled += math.prod(size)
    return entry["dtype"] in DTYPES and filled == math.prod(shape)


def read_chunk(path, dtype, chunk):
    """One chunk as an array. Raises UserError when its bytes are missing or not those that were written."""
    file, count = Path(path) / chunk["file"], math.prod(chunk["shape"])
    dtype = np.dtype(dtype).newbyteorder("<")
    try:
        size = file.stat().st_size  # before anything is allocated
        if chunk["start"] + count * dtype.itemsize > size:
            raise UserError(f"{file} is truncated: {size} bytes; take another checkpoint or train again")
        with open(file, "rb") as stream:
            stream.seek(chunk["start"])
            content = bytearray(count * dtype.itemsize)
            stream.readinto(content)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; take another checkpoint or train again") from None
    if digest(content) != chunk["sha256"]:
        raise UserError(f"{file} was altered or damaged: a checksum differs; take another checkpoint or train again")
    return np.frombuffer(content, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(chunk["shape"])


def read(path):
    """(arrays, header) of a sharded checkpoint, put together: what ``checkpoint_file.read`` gives for a single file."""
    header = read_header(path)
    arrays = {name: np.asarray(value) for name, value in header.pop("scalars").items()}
    for name, entry in header.pop("arrays").items():
        _check_files(path, entry)
        whole = np.empty(entry["shape"], entry["dtype"])
        for chunk in entry["chunks"]:
            box = tuple(slice(o, o + n) for o, n in zip(chunk["offset"], chunk["shape"]))
            whole[box] = read_chunk(path, entry["dtype"], chunk)
        arrays[name] = whole
    return arrays, header


def _check_files(path, entry):
    """Raise UserError unless the files are long enough for the array, before memory is taken for it."""
    needed = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
    there = sum(file.stat().st_size for file in Path(path).glob("shard-*.bin"))
    if needed > there:
        raise UserError(f"{path} is truncated: {there} bytes for an array of {needed}; take another checkpoint")
