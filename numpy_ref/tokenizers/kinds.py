"""What tokenizers other than byte-level BPE know, and which kinds there are. All of them write every text: each has a
token for every byte, and pieces are cut by the same split patterns.

    bpe        merges by frequency                                        `bpe.py`, Vocabulary
    unigram    a probability for each token; the likeliest segmentation   `unigram.py`, UnigramVocabulary
    wordpiece  merges by likelihood; longest match first                  `wordpiece.py`, WordPieceVocabulary
    boundless  BPE whose later merges cross the borders of pieces         `boundless.py`, BoundlessVocabulary
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.vocabulary import ALPHABET, Tokens, Vocabulary, visible

DEFINITION = "tables: nothing is computed"

KINDS = ("bpe", "unigram", "wordpiece", "boundless")
# How a WordPiece token is written that goes on with a piece. BERT has "##", which a piece of bytes may begin with: where
# tokens are looked up as they are written, "##x" of a text would be taken for the token that goes on with x.
PREFIX = "\u2026"
BYTES = tuple(bytes([byte]) for byte in ALPHABET)  # the first 256 tokens of every vocabulary trained here


@dataclass(frozen=True, eq=True)
class UnigramVocabulary(Tokens):
    """Tokens by id, ``scores`` {bytes: log probability} of all but the special ones, split pattern, special tokens."""

    tokens: tuple
    scores: dict
    pattern: str = "gpt4"
    special: dict = field(default_factory=dict)

    kind = "unigram"

    def __post_init__(self):
        self._check_tokens()
        if set(self.scores) != set(self.ids):
            raise UserError("not every token has a score, or a score has no token; the vocabulary is damaged")
        for token, score in self.scores.items():
            if not isinstance(score, float) or not math.isfinite(score):
                raise UserError(f"the token {visible(token)!r} has the score {score!r}; a finite number is needed")

    @cached_property
    def longest(self):
        """Bytes of the longest token of text."""
        return max(map(len, self.ids))


@dataclass(frozen=True, eq=True)
class WordPieceVocabulary(Tokens):
    """Tokens by id; ``continuing``: the ids of those that go on with a piece, all others of text begin one."""

    tokens: tuple
    continuing: frozenset
    pattern: str = "gpt4"
    special: dict = field(default_factory=dict)

    kind = "wordpiece"

    def __post_init__(self):
        self._check_tokens(self.continuing)
        inside = [self.tokens[i] for i in self.continuing if 0 <= i < len(self.tokens)]
        if None in inside or len(inside) < len(self.continuing) or self.continuing & set(self.special.values()):
            raise UserError(f"a continuing token ({PREFIX}) has an id without a token of text; the file is damaged")
        if len(set(inside)) < len(inside) or b"" in inside:
            raise UserError(f"two continuing tokens ({PREFIX}) have the same bytes, or one has none; the file is damaged")
        for byte in range(256):
            if bytes([byte]) not in self.continuing_ids:
                raise UserError(f"no token {PREFIX}... goes on with byte 0x{byte:02x}, so it can't write every text")

    @cached_property
    def ids(self):
        """{bytes: id} of the tokens that begin a piece."""
        others = set(self.special.values()) | self.continuing
        return {token: i for i, token in enumerate(self.tokens) if token is not None and i not in others}

    @cached_property
    def continuing_ids(self):
        """{bytes: id} of the tokens that go on with a piece."""
        return {self.tokens[i]: i for i in self.continuing}

    @cached_property
    def longest(self):
        """Bytes of the longest token of text."""
        return max(map(len, (*self.ids, *self.continuing_ids)))

    def label(self, token):
        """A token in visible characters, with PREFIX where it goes on with a piece."""
        return PREFIX * (token in self.continuing) + super().label(token)


@dataclass(frozen=True, eq=True)
class BoundlessVocabulary(Tokens):
    """A BPE Vocabulary with ``supermerges``: pairs of ids of whole pieces, or of what supermerges made, by rank."""

    tokens: tuple
    merges: tuple
    supermerges: tuple
    pattern: str = "gpt4"
    special: dict = field(default_factory=dict)

    kind = "boundless"

    def __post_init__(self):
        self._check_tokens()
        self._check_merges(self.merges + self.supermerges)

    @cached_property
    def ranks(self):
        """{(left id, right id): (rank, id of what the merge makes)}."""
        return self._ranks(self.merges)

    @cached_property
    def super_ranks(self):
        """The same for the supermerges."""
        return self._ranks(self.supermerges)


VOCABULARIES = {kind.kind: kind for kind in (Vocabulary, UnigramVocabulary, WordPieceVocabulary, BoundlessVocabulary)}
