"""Text to sentences, sentences to arrays of bytes, and back."""

import hashlib
import re

import numpy as np

from numpy_ref.concepts.config import END
from numpy_ref.errors import UserError

DEFINITION = "text and bytes: no arithmetic"

BORDER = re.compile(r"(?<=[.!?])\s+")


def sentences_of(text):
    """The sentences of a text: they end in . ! or ? before a space. Line ends and many spaces become one space."""
    return [" ".join(part.split()) for part in BORDER.split(text) if part.strip()]


def split_sentences(text):
    """The sentences of a text, at least one. Raises UserError for a text without any words."""
    found = sentences_of(text)
    if not found:
        raise UserError("the text is empty; give at least one sentence")
    return found


def digest(sentences):
    """Another text for any other sentences."""
    return hashlib.sha256("\n".join(sentences).encode()).hexdigest()


def to_tokens(sentences, length):
    """(tokens, lengths) of sentences: their UTF-8 bytes, END behind each, as wide as the longest.

    Shapes: n sentences of at most ``length`` bytes -> (n, L + 1) int64, (n,) int64.
    Raises UserError for a sentence that is empty or too long.
    """
    coded = [sentence.encode() for sentence in sentences]
    for sentence, data in zip(sentences, coded, strict=True):
        if not data:
            raise UserError("a sentence is empty; leave it out")
        if len(data) > length:
            raise UserError(f"the sentence {sentence[:30]!r}... has {len(data)} bytes, the encoder takes {length}; shorten it")
    lengths = np.array([len(data) for data in coded], np.int64)
    tokens = np.full((len(coded), lengths.max(initial=0) + 1), END, np.int64)
    for row, data in zip(tokens, coded, strict=True):
        row[: len(data)] = list(data)
    return tokens, lengths


def to_text(tokens):
    """The sentences in rows of tokens, each up to its END; bytes that are no UTF-8 show as a mark."""
    ends = np.argmax(np.concatenate([tokens, np.full((len(tokens), 1), END)], axis=1) == END, axis=1)
    return [bytes(row[:end].astype(np.uint8)).decode(errors="replace") for row, end in zip(tokens, ends, strict=True)]
