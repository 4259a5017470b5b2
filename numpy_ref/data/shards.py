"""Tokens in files of a fixed size, with where each document ends: written once, and on from where a killed process was.

    train-00000.bin     token ids, little-endian, one after the other, at most SHARD of them; documents run on from one
                        file to the next
    train-00000.ends    8-byte little-endian: for each document that ends in this file, how many tokens of all files
                        come before its end

A finished file is described by {"tokens", "documents", "bytes", "sha256", "ends_sha256"}: its tokens, the documents
that end in it, and the bytes of their text.
"""

import hashlib
from collections import deque

import numpy as np

from numpy_ref import files
from numpy_ref.errors import UserError

DEFINITION = "a file format"

SHARD = 1 << 24  # tokens
ENDS = np.dtype("<i8")
FIELDS = ("tokens", "documents", "bytes")


class Shards:
    """Token ids (n,) in several memory maps of ``size`` ids each (the last may be shorter), indexed like one array."""

    def __init__(self, maps):
        self.maps, self.size, self.dtype = maps, len(maps[0]), maps[0].dtype
        self.shape = (sum(map(len, maps)),)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        """The ids at an index: a whole number, a slice, or an array of whole numbers of any shape."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            if stop <= start:
                return self.maps[0][:0]
            first = start // self.size
            parts = enumerate(self.maps[first : (stop - 1) // self.size + 1], first)
            parts = [part[max(0, start - i * self.size) : stop - i * self.size] for i, part in parts]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        index = np.asarray(index)
        if index.size and not (-len(self) <= index.min() and index.max() < len(self)):
            raise IndexError(f"index {index.min()} to {index.max()} of {len(self)} tokens")
        shard, place = np.divmod(np.where(index < 0, index + len(self), index), self.size)
        chosen = np.empty(index.shape, self.dtype)
        for number in np.unique(shard):
            here = shard == number
            chosen[here] = self.maps[number][place[here]]
        return chosen


def write(folder, side, texts, encode_all, dtype, finished, record):
    """Encode the documents ``texts`` (an iterable of str) to the shards of ``side``; what describes them, in order.

    encode_all: the tokenizer, an iterable of texts -> the ids of each, in order.
    finished: the descriptions of the shards that an earlier call with the same arguments wrote before it was killed:
    their documents are read, but not encoded again. record(descriptions): called after each shard.
    Raises UserError for ids beyond the dtype, and when the folder can't be written.
    """
    shards = list(finished)
    stream = _Stream(folder, side, texts, encode_all, dtype, finished)
    while stream.more():
        path, digest, start = _file(folder, side, len(shards)), hashlib.sha256(), stream.tokens

        def fill(file, digest=digest, start=start):
            while stream.tokens - start < SHARD and stream.more():
                content = stream.take(SHARD - (stream.tokens - start)).tobytes()
                file.write(content)
                digest.update(content)

        files.replace(path, fill)
        ends, size = stream.ended()
        files.replace(path.with_suffix(".ends"), lambda file, ends=ends: file.write(ends.tobytes()))
        sums = {"sha256": digest.hexdigest(), "ends_sha256": hashlib.sha256(ends.tobytes()).hexdigest()}
        shards.append({"tokens": stream.tokens - start, "documents": len(ends), "bytes": size} | sums)
        record(shards)
    return shards


def open_shards(folder, side, shards, dtype, check):
    """(ids (n,), borders (documents + 1,) int64) of a side; ``check`` compares the sums of the files' bytes too.

    Raises UserError for files that are missing, of another size or altered.
    """
    maps, ends = [], [np.zeros(1, ENDS)]
    for number, shard in enumerate(shards):
        path = _file(folder, side, number)
        sums = (shard["sha256"], shard["ends_sha256"]) if check else (None, None)
        maps.append(_mapped(path, dtype, shard["tokens"], sums[0]))
        if number + 1 < len(shards) and shard["tokens"] != shards[0]["tokens"]:
            raise UserError(f"{str(path)!r} is shorter than the files before it; delete the folder and train again")
        ends.append(_mapped(path.with_suffix(".ends"), ENDS, shard["documents"], sums[1]))
    borders = np.concatenate(ends).astype(np.int64)
    tokens = maps[0] if len(maps) == 1 else Shards(maps)
    if (np.diff(borders) < 0).any() or borders[-1] != len(tokens):
        raise UserError(f"the borders of documents in {str(folder)!r} do not fit its tokens; delete it and train again")
    return tokens, borders


def check_finished(folder, side, finished, dtype):
    """Raise UserError or OSError unless the shards that ``finished`` describes are whole, as ``write`` needs them."""
    for number, shard in enumerate(finished):
        path = _file(folder, side, number)
        if shard["tokens"] != SHARD and number + 1 < len(finished):
            raise UserError(f"{str(path)!r} is of another size")
        _mapped(path, dtype, shard["tokens"], shard["sha256"])
        _mapped(path.with_suffix(".ends"), ENDS, shard["documents"], shard["ends_sha256"])


def remove(folder, side):
    """Delete the shards of a side."""
    for path in (*folder.glob(f"{side}*.bin"), *folder.glob(f"{side}*.ends")):
        try:
            path.unlink()
        except OSError as error:
            raise files.refusal(path, error) from None


def _checked(ids, dtype):
    """The ids of a text in a dtype. Raises UserError for ids that it can't hold."""
    ids = np.asarray(ids)
    limit = np.iinfo(dtype).max
    if ids.size and not (0 <= ids.min() and ids.max() <= limit):
        given = f"token ids {ids.min()} to {ids.max()}"
        raise UserError(f"{given} do not fit {dtype.name} (0 to {limit}); take a wider dtype")
    return ids.astype(dtype)


class _Stream:
    """The tokens of the documents one after the other, from where the finished shards end."""

    def __init__(self, folder, side, texts, encode_all, dtype, finished):
        texts, self.sizes, self.dtype = iter(texts), deque(), dtype
        self.tokens = sum(shard["tokens"] for shard in finished)  # handed out so far
        self.end, self.ends, self.rest = 0, [], np.zeros(0, dtype)  # of the document at hand; not yet told; its tokens
        for number in reversed(range(len(finished))):
            if finished[number]["documents"]:
                ends = _mapped(_file(folder, side, number).with_suffix(".ends"), ENDS, finished[number]["documents"])
                self.end = int(ends[-1])
                break
        for _ in range(sum(shard["documents"] for shard in finished)):
            next(texts)
        self.encoded = iter(encode_all(self._measured(texts)))

    def _measured(self, texts):
        """The texts as they are; their bytes are noted."""
        for text in texts:
            self.sizes.append(len(text.encode()))
            yield text

    def more(self):
        """Whether tokens are left. Encodes the next document when the one at hand is used up."""
        while not len(self.rest):
            ids = next(self.encoded, None)
            if ids is None:
                return False
            ids = _checked(ids, self.dtype)
            self.rest = ids[max(0, self.tokens - self.end) :]  # a killed process may have finished a shard within it
            self.end += len(ids)
            self.ends.append((self.end, self.sizes.popleft()))
        return True

    def take(self, most):
        """At most so many tokens of the document at hand."""
        chosen, self.rest = self.rest[:most], self.rest[most:]
        self.tokens += len(chosen)
        return chosen

    def ended(self):
        """(ends (documents,), bytes of text) of the documents that have ended since this was asked before."""
        done = [pair for pair in self.ends if pair[0] <= self.tokens]
        self.ends = self.ends[len(done) :]
        return np.array([end for end, _ in done], ENDS), sum(size for _, size in done)


def _file(folder, side, number):
    return folder / f"{side}-{number:05d}.bin"


def _mapped(path, dtype, count, sha256=None):
    """A file of ``count`` numbers through a memory map; an empty one can't be mapped and needs none."""
    if type(count) is not int or count < 0 or path.stat().st_size != count * dtype.itemsize:
        raise UserError(f"{str(path)!r} does not hold the {count} numbers it should; delete it and train again")
    found = np.memmap(path, dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype)
    if sha256 is not None and hashlib.sha256(found.view(np.uint8)).hexdigest() != sha256:
        raise UserError(f"{str(path)!r} was altered: its checksum differs; delete it and train again")
    return found
