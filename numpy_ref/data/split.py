"""Held-out text that the model has never seen: split by document, then no passage on both sides.

A split by position or by document alone leaks where documents repeat each other: of CPython's help topics a fifth is
there twice, and a model that has learnt a page by heart looks good on its copy. So three rules:

1. Whole documents are held out, chosen by a hash of their names: the choice is spread evenly and stays put as a
   corpus grows.
2. A paragraph of 40 characters or more, white space folded, occurs once in the whole corpus. Held-out documents are
   read first, so a paragraph of both sides stays in the held-out one alone.
3. A training paragraph goes as well when a good part of its 8-word sequences occurs in held-out text: the same
   sentences with other punctuation, or wrapped and joined differently.

A shorter paragraph (a heading, a remark) belongs to the next long one and goes with it. A document that loses nearly
all its text goes as a whole: what would stay of it is a title.
Memory: 8 bytes for each paragraph and each held-out sequence of words.
"""

import functools
import hashlib
import re

import numpy as np

from numpy_ref.errors import UserError

DEFINITION = "which text is held out: no arithmetic on model arrays"

SHORTEST = 40  # characters: shorter paragraphs may repeat
WORDS = 8  # length of the word sequences compared
SHARED = 0.25  # a training paragraph with more of its word sequences than this in held-out text is dropped
LEFT = 1 / 8  # a document that keeps less than this share of its text is dropped
BLANK_LINES = re.compile(r"\n(?:[ \t\r\f\v]*\n)+")
WORD = re.compile(r"\w{1,40}")


def split(documents, share=0.1):
    """(training documents, held-out documents), each in the order given, about ``share`` of the bytes held out.

    In the order of sha256(name), documents are held out until the share is reached, but for those that would carry it
    beyond one and a half times that. Each side has at least one. Raises UserError for a single document.
    """
    if not (isinstance(share, float) and 0 < share <= 0.5):
        raise UserError(f"share={share!r} of held-out text is not allowed; it must be above 0 and at most 0.5")
    total = sum(document.size for document in documents)
    if len(documents) < 2:
        raise UserError(
            f"{total} bytes of text in one piece can't be split into training and held-out text; "
            "give a text of at least 2 KB or several files"
        )
    order = sorted(documents, key=lambda document: hashlib.sha256(_bytes(document.name)).digest())
    target, size, chosen = share * total, 0, set()
    for document in order:
        if size < target and size + document.size <= 1.5 * target:
            chosen.add(document.name)
            size += document.size
    if not chosen:  # every document is large: the smallest does least harm to the training side
        chosen.add(min(order, key=lambda document: document.size).name)
    train = [document for document in documents if document.name not in chosen]
    return train, [document for document in documents if document.name in chosen]


def deduplicated(train, held_out):
    """Yield ("validation", document, text) for every held-out document, then ("train", document, text).

    The texts are what rules 2 and 3 leave; a document of which next to nothing is left is not yielded.
    """
    paragraphs, sequences = _Hashes(), _Hashes()
    for document in held_out:
        pieces = _pieces(document.text)
        text = _kept(pieces, _first(pieces, paragraphs))
        sequences.add(_sequences(_words(text)))
        if text:
            yield "validation", document, text
    for document in train:
        pieces = _pieces(document.text)
        text = _kept(pieces, _first(pieces, paragraphs) & ~_shared(pieces, sequences))
        if text:
            yield "train", document, text


def _pieces(text):
    """The text cut into pieces: one long paragraph each, with the short ones before it; the last takes the rest.

    Each is (text with the blank lines after it, the long paragraph with white space folded).
    """
    pieces, start, end = [], 0, 0
    for paragraph, following in _paragraphs(text):
        end = following
        folded = " ".join(paragraph.split())
        if len(folded) >= SHORTEST:
            pieces.append((text[start:following], folded))
            start = following
    if start < end:
        rest = text[start:end]
        if pieces:
            before, folded = pieces.pop()
            pieces.append((before + rest, folded))
        else:
            pieces.append((rest, " ".join(rest.split())))  # nothing but short paragraphs: compared as a whole
    return pieces


def _paragraphs(text):
    """Yield each paragraph and where the next one begins."""
    start = 0
    for blank in BLANK_LINES.finditer(text):
        yield text[start : blank.start()], blank.end()
        start = blank.end()
    if start < len(text):
        yield text[start:], len(text)


def _kept(pieces, keep):
    """The text of the pieces to keep, without blank lines around it; "" if that is less than LEFT of the whole."""
    text = "".join(piece for (piece, _), kept in zip(pieces, keep) if kept)
    return text.strip("\n").rstrip() if len(text) >= LEFT * sum(len(piece) for piece, _ in pieces) else ""


def _first(pieces, seen):
    """Which pieces have a paragraph that was not met before: bool (pieces,). Adds them to ``seen``."""
    hashes = np.array([_hash(folded) for _, folded in pieces], np.uint64)
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    first &= ~seen.contains(hashes)
    seen.add(hashes[first])
    return first


def _shared(pieces, sequences):
    """Which pieces have more than SHARED of the word sequences of their paragraph in ``sequences``: bool (pieces,)."""
    words = [_words(folded) for _, folded in pieces]
    count = np.array([len(w) for w in words], np.int64)
    found = sequences.contains(_sequences(np.concatenate(words))) if words else np.zeros(0, bool)
    before = np.concatenate([[0], np.cumsum(found), np.full(WORDS, np.sum(found))])  # found sequences before a word
    start = np.cumsum(count) - count
    inside = np.maximum(count - WORDS + 1, 0)  # sequences that lie within the paragraph
    return before[start + inside] - before[start] > SHARED * inside


def _words(text):
    """Hash of every word, letter case and punctuation left out: uint64 (words,)."""
    return np.array([_word(word) for word in WORD.findall(text.lower())], np.uint64)


def _sequences(words):
    """Hash of every WORDS neighbouring words: a polynomial in an odd base modulo 2^64, uint64 (words - WORDS + 1,)."""
    length = max(len(words) - WORDS + 1, 0)
    hashes = np.zeros(length, np.uint64)
    for i in range(WORDS):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + words[i : i + length]
    return hashes


def _bytes(text):
    return text.encode("utf-8", "surrogateescape")


def _hash(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


_word = functools.lru_cache(1 << 16)(_hash)  # words repeat, paragraphs do not


class _Hashes:
    """A growing set of 8-byte hashes: sorted runs, each at least twice as long as the next (a log-structured merge)."""

    def __init__(self):
        self.runs = []

    def add(self, hashes):
        run = np.unique(hashes)
        while self.runs and len(self.runs[-1]) < 2 * len(run):
            run = np.union1d(self.runs.pop(), run)
        if len(run):
            self.runs.append(run)

    def contains(self, hashes):
        found = np.zeros(len(hashes), bool)
        for run in self.runs:
            place = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            found |= run[place] == hashes
        return found
