"""Byte-level byte pair encoding for long texts: what Python does, it does once for each distinct piece.

Pieces are cut and counted in C (``re``, ``Counter``), the ids of a piece are looked up in a cache and joined as bytes,
several processes share the work where it is large, and nothing longer than a chunk of text is held.
"""

import codecs
import heapq
from array import array
from collections import Counter, defaultdict
from itertools import repeat

import numpy as np
import torch

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.pretokenize import chunks, parts, split
from numpy_ref.tokenizers.vocabulary import ALPHABET, PLACES, checked_text, trained
from torch_impl.tokenizers.processes import in_processes

TORCH_ONLY = {"MergeCache", "PieceCache", "batches", "count_pieces", "join_pairs", "merges_of"}
TORCH_EXTRA_ARGUMENTS = {"workers"}

_CHUNK = 1 << 14  # characters: small enough that most chunks are ASCII, the fastest to cut
_SHARE = 1 << 20  # characters a process takes at a time
_LONGEST_CACHED, _MOST_CACHED = 64, 1 << 20  # characters of a piece; pieces


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None, workers=None):
    """Learn a Vocabulary of ``vocab_size`` tokens from an iterable of str, which may be longer than memory.

    Joins the pair of the highest count, of equals the smallest pair of ids, until the vocabulary is full or no pair
    occurs ``min_frequency`` times. Counts are kept, not recomputed: a merge looks only at the words that hold its pair.
    Special tokens get the last ids and are not looked for in the texts. progress(done, total) hears of every merge;
    workers: processes that count (None: as many as there are cores, if there is enough text).
    UserError for a vocabulary too small for the bytes and the special tokens, and for lone surrogates.
    """
    total = vocab_size - len(ALPHABET) - len(special)
    if total < 0:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 256 bytes and {len(special)} special tokens come first; "
            f"give at least {256 + len(special)}"
        )
    merges = merges_of(count_pieces(texts, pattern, workers), total, min_frequency, progress)
    return trained([pair for pair, _ in merges], pattern, special)


def count_pieces(texts, pattern, workers=None):
    """{piece: how often it occurs in the texts}. UserError for lone surrogates."""
    pieces = Counter()
    cut = (chunk for text in texts for chunk in chunks([text], _SHARE))
    for counted in in_processes(_count, pattern, batches(cut), workers):
        pieces.update(counted)
    return pieces


def _count(pattern, texts):
    """The pieces of some texts with their counts."""
    counts = Counter()
    for text in texts:
        for chunk in chunks([checked_text(text)], _CHUNK):
            counts.update(split(chunk, pattern))
    return counts


def merges_of(pieces, total, min_frequency, progress):
    """The merges of counted pieces, [(pair, how often it was joined), ...]; every merge brings the counts up to date.

    A pair's count only falls once its younger token has been made everywhere, so an entry of the heap never promises
    too little: whoever comes out on top with a count that is out of date goes back with the true one.
    """
    words = [[PLACES[byte] for byte in piece.encode()] for piece in pieces]
    weights = list(pieces.values())
    counts, places = defaultdict(int), defaultdict(list)  # of a pair: how often, in which words (ever)
    for index, word in enumerate(words):
        weight = weights[index]
        for pair in zip(word, word[1:]):
            counts[pair] += weight
            places[pair].append(index)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges = []
    while heap and len(merges) < total:
        promised, pair = heapq.heappop(heap)
        if counts[pair] != -promised:
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        if counts[pair] < min_frequency:
            break
        new = len(ALPHABET) + len(merges)
        merges.append((pair, counts[pair]))
        for grown in join_pairs(pair, new, words, weights, counts, places):
            heapq.heappush(heap, (-counts[grown], grown))
        if progress:
            progress(len(merges), total)
    return merges


def join_pairs(pair, new, words, weights, counts, places):
    """Join the pair to the id ``new`` wherever it occurs; returns the pairs that came up, all of them with ``new``."""
    left, right = pair
    grown = set()
    for index in places.pop(pair):
        word, weight, i = words[index], weights[index], 0
        ahead = word.count(left)
        while ahead > 0:
            i = word.index(left, i)
            ahead -= 1
            if word[i + 1 : i + 2] == [right]:
                if i:
                    before = word[i - 1]
                    counts[before, left] -= weight
                    counts[before, new] += weight
                    places[before, new].append(index)
                    grown.add((before, new))
                if i + 2 < len(word):
                    after = word[i + 2]
                    counts[right, after] -= weight
                    counts[new, after] += weight
                    places[new, after].append(index)
                    grown.add((new, after))
                word[i : i + 2] = [new]
                ahead -= left == right
            i += 1
    del counts[pair]
    return grown


class BPE:
    """Encodes and decodes by a Vocabulary; the ids of pieces it has met it remembers, up to a bound."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self._words = MergeCache(vocabulary)

    def encode(self, text, special=(), workers=None):
        """The ids of a text: (N,) in the vocabulary's dtype.

        Only the special tokens named in ``special`` are looked for in it. workers: processes that share a long text
        (None: as many as there are cores, if it is long enough). UserError for lone surrogates and unknown names.
        """
        return self._tensor(b"".join(self._encoded(text, special, workers)))

    def encode_all(self, texts, special=(), workers=None):
        """The ids of each of an iterable of texts, in order, read a few megabytes ahead of whoever asks for them."""
        for batch in in_processes(_encode_batch, (self, special), batches(texts), workers):
            yield from map(self._tensor, batch)

    def decode(self, tokens):
        """The text of ids (N,); bytes that are no UTF-8 become U+FFFD. UserError for an id without a token."""
        return _bytes(self.vocabulary, torch.as_tensor(tokens).tolist()).decode("utf-8", errors="replace")

    def decoder(self):
        """A new Decoder."""
        return Decoder(self.vocabulary)

    def _encoded(self, text, special, workers=1):
        """The ids of a text as bytes, part after part."""
        names = self.vocabulary.named(special)
        for part in parts(checked_text(text), names):
            if part in names:
                yield self._words.packed([names[part]])
            else:
                yield from in_processes(_encode, self._words, chunks([part], _SHARE), workers)

    def _tensor(self, content):
        if not content:
            return torch.from_numpy(np.empty(0, self.vocabulary.dtype))
        return torch.from_numpy(np.frombuffer(bytearray(content), self.vocabulary.dtype))


def _encode(words, text):
    """The ids of a text without special tokens, as bytes."""
    pattern = words.vocabulary.pattern
    return b"".join(b"".join(map(words.__getitem__, split(chunk, pattern))) for chunk in chunks([text], _CHUNK))


def _encode_batch(shared, texts):
    bpe, special = shared
    return [b"".join(bpe._encoded(text, special)) for text in texts]


def batches(texts):
    """Lists of texts of about _SHARE characters together."""
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _SHARE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class PieceCache(dict):
    """{piece: its ids as bytes}; what is missing is found when it is asked for, by the ``found(word)`` of a subclass."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary = vocabulary
        self._typecode = {1: "B", 2: "H", 4: "I"}[vocabulary.dtype.itemsize]

    def __missing__(self, piece):
        found = self.value(piece)
        if len(piece) <= _LONGEST_CACHED:
            if len(self) >= _MOST_CACHED:
                self.clear()
            self[piece] = found
        return found

    def value(self, piece):
        return self.packed(self.found(piece.encode()))

    def packed(self, ids):
        return array(self._typecode, ids).tobytes()


class MergeCache(PieceCache):
    """The cache of BPE, by the merges of the vocabulary or by other ``ranks``."""

    def __init__(self, vocabulary, ranks=None):
        super().__init__(vocabulary)
        ranks = vocabulary.ranks if ranks is None else ranks
        self._ranks = {pair: rank for pair, (rank, _) in ranks.items()}
        self._byte_ids = vocabulary.byte_ids
        self._made = [new for _, new in ranks.values()]

    def found(self, word):
        """The ids of the bytes of a piece."""
        return self.joined(list(map(self._byte_ids.__getitem__, word)))

    def joined(self, ids):
        """Some ids, joined by the merges."""
        return self._join_long(ids) if len(ids) > _LONGEST_CACHED else self._join_short(ids)

    def _join_short(self, word):
        """Join the leftmost pair of the lowest rank until there is none; the ranks of all pairs lie in a list."""
        get, made, never = self._ranks.get, self._made, len(self._ranks)
        ranks = list(map(get, zip(word, word[1:]), repeat(never)))
        while ranks and (rank := min(ranks)) < never:
            i = ranks.index(rank)
            word[i] = new = made[rank]
            del word[i + 1], ranks[i]
            if i:
                ranks[i - 1] = get((word[i - 1], new), never)
            if i < len(ranks):
                ranks[i] = get((new, word[i + 1]), never)
        return word

    def _join_long(self, word):
        """The same for a long word in O(n log n): pairs in a heap, neighbours in a linked list."""
        after = [*range(1, len(word)), None]
        before = [None, *range(len(word) - 1)]
        heap = [(self._ranks[pair], i) for i, pair in enumerate(zip(word, word[1:])) if pair in self._ranks]
        heapq.heapify(heap)
        while heap:
            rank, i = heapq.heappop(heap)
            right = after[i]
            if word[i] is None or right is None or self._ranks.get((word[i], word[right])) != rank:
                continue  # one of the two has been joined to another meanwhile
            word[i], word[right] = self._made[rank], None
            after[i] = after[right]
            if after[i] is not None:
                before[after[i]] = i
            for start in (before[i], i):
                if start is not None and after[start] is not None:
                    pair = word[start], word[after[start]]
                    if pair in self._ranks:
                        heapq.heappush(heap, (self._ranks[pair], start))
        return [token for token in word if token is not None]


class Decoder:
    """Decodes token by token, holding a character back until all its bytes are there."""

    def __init__(self, vocabulary):
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token):
        """The text that this token completes, often a word, sometimes empty."""
        return self._decoder.decode(_bytes(self._vocabulary, [int(token)]))

    def finish(self):
        """What is left: U+FFFD if a character was cut short."""
        return self._decoder.decode(b"", final=True)


def _bytes(vocabulary, ids):
    found = [vocabulary.tokens[i] if 0 <= i < len(vocabulary) else None for i in ids]
    if None in found:
        lost = ids[found.index(None)]
        raise UserError(f"token id {lost} is not in the vocabulary; give ids from 0 to {len(vocabulary) - 1}")
    return b"".join(found)
