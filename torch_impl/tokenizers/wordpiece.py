"""WordPiece (Schuster and Nakajima 2012; arXiv:1810.04805) for much text: counts that are kept up to date, a trie."""

import math
from collections import defaultdict

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.kinds import BYTES, WordPieceVocabulary
from numpy_ref.tokenizers.vocabulary import PLACES, with_special
from torch_impl.tokenizers.bpe import BPE, PieceCache, count_pieces, join_pairs

TORCH_EXTRA_ARGUMENTS = {"workers"}


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None, workers=None):
    """Learn a WordPieceVocabulary of ``vocab_size`` tokens from an iterable of str, which may be longer than memory.

    Joins the pair with the largest gain c(ab) ((ln c(ab) + ln N) - (ln c(a) + ln c(b))), of equals the smallest pair of
    ids, as long as there is a gain and ``min_frequency`` occurrences. Joins touch only the words that hold the pair,
    and gains of all pairs are one vector. No token is made twice. Special tokens get the last ids. progress(done, total)
    hears of every merge; workers: processes that count pieces.
    UserError for a vocabulary too small for 2 * 256 bytes and the special tokens, and for lone surrogates.
    """
    total = vocab_size - 2 * len(BYTES) - len(special)
    if total < 0:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 512 bytes and {len(special)} special tokens come first; "
            f"give at least {512 + len(special)}"
        )
    pieces = count_pieces(texts, pattern, workers)
    words, weights = [], list(pieces.values())
    for piece in pieces:
        first, *rest = (PLACES[byte] for byte in piece.encode())
        words.append([first, *(place + len(BYTES) for place in rest)])
    tokens = [(token, goes_on) for goes_on in (False, True) for token in BYTES]
    gains = _Gains(words, weights, 2 * len(BYTES) + total, min_frequency)
    known = set(tokens)
    while len(tokens) < 2 * len(BYTES) + total and (pair := gains.best()):
        made = tokens[pair[0]][0] + tokens[pair[1]][0], tokens[pair[0]][1]
        if made in known:
            gains.forbid(pair)
            continue
        gains.join(pair, len(tokens))
        tokens.append(made)
        known.add(made)
        if progress:
            progress(len(tokens) - 2 * len(BYTES), total)
    continuing = frozenset(i for i, (_, goes_on) in enumerate(tokens) if goes_on)
    return with_special(WordPieceVocabulary(tuple(token for token, _ in tokens), continuing, pattern), special)


class _Counts(defaultdict):
    """Counts that remember which of them were changed."""

    def __init__(self):
        super().__init__(int)
        self.changed = set()

    def __setitem__(self, key, value):
        self.changed.add(key)
        super().__setitem__(key, value)


class _Gains:
    """The gain of every pair that is frequent enough. A pair's count falls once both its tokens are there, so what is
    too rare stays out for good."""

    def __init__(self, words, weights, tokens, least):
        self.words, self.weights, self.least = words, weights, least
        self.counts, self.places = _Counts(), defaultdict(list)
        self.single = [0] * tokens
        for index, word in enumerate(words):
            for token in word:
                self.single[token] += weights[index]
            for pair in zip(word, word[1:]):
                self.counts[pair] += weights[index]
                self.places[pair].append(index)
        self.whole, self.logs = sum(self.single), np.array([math.log(max(1, count)) for count in self.single])
        self.slots, self.size, self.forbidden = {}, 0, set()
        self.pairs, self.values = np.zeros((2, 1024), np.int64), np.zeros((2, 1024))  # (left, right), (count, its log)
        self._refresh()

    def best(self):
        """The pair to join next, or None where nothing gains."""
        if not self.size:
            return None
        (left, right), (count, log) = self.pairs[:, : self.size], self.values[:, : self.size]
        gain = count * ((log + math.log(self.whole)) - (self.logs[left] + self.logs[right]))
        largest = gain.max()
        if not largest > 0:
            return None
        return min(zip(*self.pairs[:, np.flatnonzero(gain == largest)].tolist()))

    def forbid(self, pair):
        """This pair is never joined."""
        self.forbidden.add(pair)
        self._drop(pair)

    def _drop(self, pair):
        self.values[0, self.slots.pop(pair)] = 0.0

    def join(self, pair, new):
        """Join the pair to the id ``new`` everywhere, and bring the gains up to date."""
        touched = set(self.places[pair])
        join_pairs(pair, new, self.words, self.weights, self.counts, self.places)
        made = sum(self.weights[index] * self.words[index].count(new) for index in touched)
        self.single[new] = made
        for token in pair:
            self.single[token] -= made
        self.whole -= made
        for token in (*pair, new):
            self.logs[token] = math.log(max(1, self.single[token]))
        self._refresh()

    def _refresh(self):
        """Take over the counts that have changed."""
        for pair in self.counts.changed - self.forbidden:
            count = self.counts.get(pair, 0)
            if count >= self.least:
                slot = self.slots.get(pair)
                if slot is None:
                    slot = self._new_slot(pair)
                self.values[:, slot] = count, math.log(count)
            elif pair in self.slots:
                self._drop(pair)
        self.counts.changed.clear()

    def _new_slot(self, pair):
        if self.size == self.pairs.shape[1]:
            kept = np.flatnonzero(self.values[0] > 0)
            self.size, grown = len(kept), max(1024, 2 * len(kept))
            pairs, values = np.zeros((2, grown), np.int64), np.zeros((2, grown))
            pairs[:, : self.size], values[:, : self.size] = self.pairs[:, kept], self.values[:, kept]
            self.pairs, self.values = pairs, values
            self.slots = {pair: slot for slot, pair in enumerate(zip(*pairs[:, : self.size].tolist()))}
        self.slots[pair] = slot = self.size
        self.pairs[:, slot] = pair
        self.size += 1
        return slot


class WordPiece(BPE):
    """Encodes and decodes by a WordPieceVocabulary. What is not about a single piece is as in BPE."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self._words = _Matches(vocabulary)


class _Matches(PieceCache):
    """{piece: its ids as bytes}, longest match first, down a trie of dicts."""

    def __init__(self, vocabulary):
        super().__init__(vocabulary)
        self._first, self._later = {}, {}
        for root, ids in ((self._first, vocabulary.ids), (self._later, vocabulary.continuing_ids)):
            for token, i in ids.items():
                node = root
                for byte in token:
                    node = node.setdefault(byte, {})
                node[None] = i

    def found(self, word):
        """The ids of the bytes of a piece."""
        ids, start, root = [], 0, self._first
        while start < len(word):
            node, place = root, start
            while place < len(word) and (node := node.get(word[place])):
                place += 1
                if None in node:
                    longest, end = node[None], place
            ids.append(longest)
            start, root = end, self._later
        return ids
