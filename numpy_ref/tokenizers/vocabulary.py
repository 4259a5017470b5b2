"""What a byte-level BPE tokenizer knows: its tokens, its merges in order, its split pattern and its special tokens.

``Tokens`` is what tokenizers of every kind know; `kinds.py` has the others.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.pretokenize import PATTERNS

DEFINITION = "a table: nothing is computed"

MOST = 1 << 20  # tokens: no file can ask for more memory than that many entries take

# GPT-2 writes bytes as visible characters: those that are visible in Latin-1 as themselves, the others as U+0100 and
# following. The first 256 ids of its vocabulary are in this order, and so are those of vocabularies trained here.
ALPHABET = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
ALPHABET += tuple(byte for byte in range(256) if byte not in ALPHABET)
PLACES = {byte: place for place, byte in enumerate(ALPHABET)}  # the id of a byte in a vocabulary trained here
VISIBLE = {byte: chr(byte if place < 188 else 0x100 + place - 188) for place, byte in enumerate(ALPHABET)}
BYTES = {character: byte for byte, character in VISIBLE.items()}


class Tokens:
    """What the vocabularies of all kinds share: ``tokens``, ``pattern``, ``special``, and what follows from them.

    ``tokens[id]`` is the token's bytes, of a special token its name in UTF-8, None where no token has that id.
    ``pattern`` names the split pattern, ``special`` is {name: id}.
    """

    def __len__(self):
        return len(self.tokens)

    @property
    def dtype(self):
        """The smallest unsigned number format that holds every id."""
        return np.dtype(np.uint8 if len(self) <= 1 << 8 else np.uint16 if len(self) <= 1 << 16 else np.uint32)

    @cached_property
    def ids(self):
        """{bytes: id} of all tokens but the special ones."""
        special = set(self.special.values())
        return {token: i for i, token in enumerate(self.tokens) if token is not None and i not in special}

    @cached_property
    def byte_ids(self):
        """The 256 ids of the single bytes, in the order of the bytes."""
        return tuple(self.ids[bytes([byte])] for byte in range(256))

    def label(self, token):
        """A token in visible characters, as GPT-2's files write it; a special token by its name."""
        return self.tokens[token].decode() if token in self.special.values() else visible(self.tokens[token])

    def named(self, names):
        """{name: id} of the special tokens of these names. Raises UserError for a name that there is not."""
        for name in names:
            if name not in self.special:
                have = ", ".join(self.special) or "none"
                raise UserError(f"there is no special token {name!r}; this tokenizer has {have}")
        return {name: self.special[name] for name in names}

    def _check_tokens(self, continuing=()):
        """Every byte has a token, no two say the same, special names fit. ``continuing``: ids of another alphabet."""
        if self.pattern not in PATTERNS:
            raise UserError(f"there is no split pattern {self.pattern!r}; take one of {', '.join(PATTERNS)}")
        if len(self.tokens) > MOST:
            raise UserError(f"the vocabulary has ids up to {len(self.tokens) - 1}; at most {MOST - 1} is allowed")
        special = set(self.special.values())
        if len(special) < len(self.special):
            raise UserError("two special tokens have the same id; give each its own")
        elsewhere = special.union(continuing)
        ordinary = [token for i, token in enumerate(self.tokens) if token is not None and i not in elsewhere]
        if len(set(ordinary)) < len(ordinary) or b"" in ordinary:
            raise UserError("two tokens have the same bytes, or one has none; the vocabulary is damaged")
        missing = [byte for byte in range(256) if bytes([byte]) not in self.ids]
        if missing:
            raise UserError(f"the vocabulary has no token for byte 0x{missing[0]:02x}, so it can't write every text")
        for name, i in self.special.items():
            if not name or not 0 <= i < len(self.tokens) or self.tokens[i] != name.encode("utf-8", "replace"):
                raise UserError(f"the special token {name!r} does not fit its id {i}; each needs a name and an id")
            if bytes_of(name) in self.ids:
                raise UserError(f"the special token {name!r} looks like a token of text; give it another name")

    def _ranks(self, merges):
        """{(left id, right id): (rank, id of what the merge makes)}."""
        tokens = self.tokens
        return {pair: (rank, self.ids[tokens[pair[0]] + tokens[pair[1]]]) for rank, pair in enumerate(merges)}

    def _check_merges(self, merges):
        """Every merge joins tokens that are bytes or were made before, and no token is made again once it is used.

        Then the pair of lowest rank in a word can be merged everywhere at once: what that makes never ranks lower.
        """
        made, used = set(self.byte_ids), set()
        for rank, (left, right) in enumerate(merges):
            if left not in made or right not in made:
                raise UserError(f"merge {rank} joins a token that no merge before it makes; the merges are damaged")
            whole = self.ids.get(self.tokens[left] + self.tokens[right])
            if whole is None or whole in used:
                fault = "makes no token of the vocabulary" if whole is None else "makes a token that is in use already"
                raise UserError(f"merge {rank} {fault}; the merges are damaged or of another vocabulary")
            made.add(whole)
            used |= {left, right} - set(self.byte_ids)
        if len(set(merges)) < len(merges):
            raise UserError("a merge is listed twice; the merges are damaged")
        if len(made) < len(self.ids):
            lost = next(token for token, i in self.ids.items() if i not in made)
            raise UserError(f"no merge makes the token {visible(lost)!r}; the merges are of another vocabulary")


@dataclass(frozen=True, eq=True)
class Vocabulary(Tokens):
    """Tokens by id, merges by rank, the name of the split pattern, and {name: id} of the special tokens.

    ``merges[rank]`` is (left id, right id); what it makes is the token of both their bytes.
    Raises UserError for what can't be: see ``_check_tokens`` and ``_check_merges``.
    """

    tokens: tuple
    merges: tuple
    pattern: str = "gpt4"
    special: dict = field(default_factory=dict)

    kind = "bpe"

    def __post_init__(self):
        self._check_tokens()
        self._check_merges(self.merges)

    @cached_property
    def ranks(self):
        """{(left id, right id): (rank, id of what the merge makes)}."""
        return self._ranks(self.merges)


def trained(merges, pattern, special):
    """The Vocabulary of new merges: bytes in ALPHABET's order, a token for each merge, special names last."""
    tokens = [bytes([byte]) for byte in ALPHABET]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return with_special(Vocabulary(tuple(tokens), tuple(merges), pattern), special)


def with_special(vocabulary, names):
    """The Vocabulary with more special tokens, under the next free ids. Raises UserError for a name that won't do."""
    tokens, special = list(vocabulary.tokens), dict(vocabulary.special)
    for name in names:
        if name in special:
            raise UserError(f"the special token {name!r} is there already; name each once")
        try:
            tokens.append(name.encode())
        except UnicodeEncodeError:
            raise UserError(f"the special token {name!r} is no text that UTF-8 can write; take another name") from None
        special[name] = len(tokens) - 1
    return replace(vocabulary, tokens=tuple(tokens), special=special)


def visible(token):
    """Bytes in GPT-2's visible characters, one for each: b" a" -> "Ġa"."""
    return "".join(map(VISIBLE.__getitem__, token))


def bytes_of(written):
    """The bytes of a token in visible characters; None where a character stands for no byte."""
    found = [BYTES.get(character) for character in written]
    return None if None in found else bytes(found)


def checked_text(text):
    """The text itself. Raises UserError for half a surrogate pair, which is no character and has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"character {error.start} of the text, {text[error.start]!r}"
        raise UserError(f"{half}, is half a surrogate pair, which UTF-8 cannot write; remove it") from None
    return text
