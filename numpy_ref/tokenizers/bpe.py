"""Byte-level byte pair encoding (arXiv:1508.07909 on bytes, as in GPT-2): the page to learn it from.

A text is cut into pieces (``pretokenize``), a piece begins as its UTF-8 bytes, and neighbouring tokens are joined again
and again: in training the pair that is most frequent, in encoding the pair that training joined first.
"""

import codecs
from collections import Counter

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.pretokenize import parts
from numpy_ref.tokenizers.pretokenize import pattern as split_pattern
from numpy_ref.tokenizers.vocabulary import ALPHABET, PLACES, checked_text, trained

NUMPY_ONLY = {"merged"}


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None):
    """Learn a Vocabulary of ``vocab_size`` tokens from an iterable of str: 256 bytes, merges, special tokens.

    Until the vocabulary is full: count every pair of neighbours inside the pieces (in "aaa" the pair aa occurs twice),
    join the most frequent pair everywhere, from left to right. Of pairs with the same count the one with the smallest
    ids, left before right, comes first: the rule of Hugging Face's trainer, whose merges these are. Training ends
    early when no pair occurs ``min_frequency`` times. progress(done, total) hears of every merge.

    Special tokens get the last ids; their names are not looked for in the texts. Raises UserError for a vocabulary too
    small for the bytes and the special tokens.
    """
    total = vocab_size - len(ALPHABET) - len(special)
    if total < 0:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 256 bytes and {len(special)} special tokens come first; "
            f"give at least {256 + len(special)}"
        )
    pieces = Counter()
    for text in texts:
        pieces.update(split_pattern(pattern).findall(checked_text(text)))
    words = {tuple(PLACES[byte] for byte in piece.encode()): count for piece, count in pieces.items()}
    merges = []
    while len(merges) < total:
        counts = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < min_frequency:
            break
        new = len(ALPHABET) + len(merges)
        words = {merged(word, best, new): count for word, count in words.items()}
        merges.append(best)
        if progress:
            progress(len(merges), total)
    return trained(merges, pattern, special)


def merged(word, pair, new):
    """The word, a tuple of ids, with every occurrence of the pair joined to the id ``new``, from left to right."""
    joined, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            joined.append(new)
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return tuple(joined)


class BPE:
    """Text to token ids and back, by a Vocabulary."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def encode(self, text, special=()):
        """The ids of a text: str -> (n,), in the vocabulary's dtype.

        Names of special tokens in the text are text like any other, except for those in ``special``. Raises UserError
        for half a surrogate pair, and for a name in ``special`` that the vocabulary does not have.
        """
        names = self.vocabulary.named(special)
        ids = []
        for part in parts(checked_text(text), names):
            if part in names:
                ids.append(names[part])
                continue
            for piece in split_pattern(self.vocabulary.pattern).findall(part):
                ids.extend(self._word(piece.encode()))
        return np.array(ids, self.vocabulary.dtype)

    def encode_all(self, texts, special=()):
        """The ids of each of an iterable of texts, as they are asked for."""
        return (self.encode(text, special) for text in texts)

    def decode(self, tokens):
        """The text of ids (n,) -> str; what is no UTF-8 becomes U+FFFD. Raises UserError for an id without a token."""
        return b"".join(_bytes(self.vocabulary, token) for token in tokens).decode("utf-8", errors="replace")

    def decoder(self):
        """A new Decoder."""
        return Decoder(self.vocabulary)

    def _word(self, piece):
        """The ids of one piece: its bytes, joined by the merge of the lowest rank that fits, until none does."""
        word = tuple(self.vocabulary.byte_ids[byte] for byte in piece)
        ranks = self.vocabulary.ranks
        while len(word) > 1:
            pair = min(zip(word, word[1:]), key=lambda pair: ranks.get(pair, (len(ranks),)))
            if pair not in ranks:
                break
            word = merged(word, pair, ranks[pair][1])
        return word


class Decoder:
    """Text as it comes, token by token: a character appears with the token that holds its last byte."""

    def __init__(self, vocabulary):
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token):
        """What one more token completes: a str, empty in the middle of a character."""
        return self._decoder.decode(_bytes(self._vocabulary, token))

    def finish(self):
        """What is left: U+FFFD if the last character is incomplete, else an empty str."""
        return self._decoder.decode(b"", final=True)


def _bytes(vocabulary, token):
    token = int(token)
    if not 0 <= token < len(vocabulary) or vocabulary.tokens[token] is None:
        raise UserError(f"token id {token} is none of this tokenizer's; its ids go from 0 to {len(vocabulary) - 1}")
    return vocabulary.tokens[token]
