"""Reading an ``.npz`` that nobody vouches for: plain numbers only, and no more memory than the file is long.

A zip and the arrays in it say themselves how large they are. Here nothing is allocated before what they say fits the
bytes that are there; compressed members, which may hold a thousand times what they take, and Python objects, which may
run code, are refused.
"""

import json
import math
import struct
import zipfile
import zlib

import numpy as np

DEFINITION = "a file format: arrays pass through it unchanged"

HEADER = "header.npy"  # the member that holds a JSON object, as bytes
LARGEST_HEADER = 1 << 24  # bytes
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Everything that reading a damaged archive was seen to raise.
DAMAGE = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError,
          RuntimeError, MemoryError, OverflowError, SyntaxError, TypeError, AttributeError, IndexError)


def read(path):
    """({name: array}, header) of an archive. Raises one of DAMAGE for a file that is none."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        found = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in found):
            raise ValueError("compressed members")
        if sum(info.file_size for info in found) > path.stat().st_size:
            raise ValueError("members that share bytes")
        header = _header(archive)
        for info in found:
            if info.filename != HEADER:
                arrays[info.filename.removesuffix(".npy")] = _array(archive, info)
    return arrays, header


def read_header(path):
    """The header alone. Raises one of DAMAGE for a file that has none."""
    with zipfile.ZipFile(path) as archive:
        return _header(archive)


def _header(archive):
    info = archive.getinfo(HEADER)
    if info.file_size > LARGEST_HEADER or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("a header beyond all reason")
    header = json.loads(_array(archive, info).tobytes())
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header


def _array(archive, info):
    """One array. What its own header says about its size has to fit the member before anything is allocated."""
    if not info.filename.endswith(".npy"):
        raise ValueError(f"unexpected member {info.filename}")
    with archive.open(info) as file:
        shape, _, dtype = HEADERS[np.lib.format.read_magic(file)](file)
        if dtype.hasobject:
            raise ValueError("Object arrays")
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "fiu" or not dtype.isnative or size != info.file_size - file.tell():
            raise ValueError(f"{dtype} {shape} does not fit its member")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
