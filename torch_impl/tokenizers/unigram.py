"""The unigram tokenizer (arXiv:1804.10959) for much text: all words at once in training, a trie and a cache in use.

The lattice of all words (`segmentation.py`) is built once; pruning only renames tokens.
"""

import math
from bisect import bisect_right
from itertools import accumulate

import numpy as np
import torch

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.kinds import BYTES, UnigramVocabulary
from numpy_ref.tokenizers.pretokenize import parts, split
from numpy_ref.tokenizers.vocabulary import checked_text, with_special
from torch_impl.rng import STREAM_SEGMENTS, uniform
from torch_impl.tokenizers.bpe import BPE, PieceCache, count_pieces
from torch_impl.tokenizers.segmentation import Lattice, maximise

TORCH_EXTRA_ARGUMENTS = {"workers"}

LONGEST = 16  # bytes of a token
SEEDS = 1 << 20  # substrings that training begins with
SHRINK = 0.75  # share of the tokens that a round keeps
SURPLUS = 1.1  # rounds end with so many times the tokens asked for; of those the likeliest stay
RARE = 0.4999  # a token that is expected to occur less often goes (SentencePiece has 0.5, which two equal ways make)
TIE = 1e-9  # log probabilities that differ less are equal but for rounding
GRAIN = 2.0**-12  # scores of a vocabulary are multiples of this: sums are exact, and equals tie in every program


# -- training -----------------------------------------------------------------------------------------------------


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None, workers=None):
    """Learn a UnigramVocabulary of ``vocab_size`` tokens from an iterable of str, which may be longer than memory.

    From the frequent substrings of the pieces down: two EM steps, then all tokens but SHRINK of them go, those whose
    loss of likelihood is least; again until SURPLUS times the wanted number is left, of which the likeliest stay.
    Of equals the smaller bytes come first; scores are rounded to multiples of GRAIN. progress(asked for, there) hears of every round; workers: processes that
    count pieces. UserError for a vocabulary too small for bytes and special tokens, and for lone surrogates.
    """
    total = vocab_size - len(BYTES) - len(special)
    if total < 0:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 256 bytes and {len(special)} special tokens come first; "
            f"give at least {256 + len(special)}"
        )
    pieces = count_pieces(texts, pattern, workers)
    words = [piece.encode() for piece in pieces]
    weights = torch.tensor(list(pieces.values()), dtype=torch.float64)
    tokens, scores = _seeds(words, weights.numpy(), min_frequency)
    lattice, least = Lattice(words, {token: i for i, token in enumerate(tokens)}), math.ceil(SURPLUS * total)
    while True:
        for _ in range(2):
            counts = lattice.expected_counts(scores, weights, lattice.totals(scores))
            tokens, counts = _kept(tokens, counts, counts >= RARE, lattice)
            scores = maximise(counts.clamp(min=RARE))
        if progress:
            progress(total, max(total, len(tokens) - len(BYTES)))
        if len(tokens) - len(BYTES) <= least:
            break
        tokens, scores = _kept(tokens, scores, _worth(lattice, weights, tokens, scores, least), lattice)
    scores = scores.tolist()
    order = sorted(range(len(BYTES), len(tokens)), key=lambda i: (-_rounded(scores[i]), tokens[i]))
    chosen = (*range(len(BYTES)), *order[:total])
    learnt = {tokens[i]: round(scores[i] / GRAIN) * GRAIN for i in chosen}
    return with_special(UnigramVocabulary(tuple(learnt), learnt, pattern), special)


def _seeds(words, weights, min_frequency):
    """Bytes, then frequent substrings by count * length, and their scores.

    Substrings of l + 1 bytes are looked for only where those of l bytes are frequent. Each is known by a number: that
    of its first l bytes and the byte behind them make the key of the next length.
    """
    text = np.frombuffer(b"".join(words), np.uint8)
    sizes = np.array([len(word) for word in words], np.int64)
    weight = np.repeat(weights, sizes)
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(text))  # bytes from here to the word's end
    data, found = text.tobytes(), []
    single = np.bincount(text, weight, 256)
    at, number, count, first = np.arange(len(text)), text.astype(np.int64), single, None
    for length in range(2, LONGEST + 2):
        frequent = count[number] >= min_frequency
        at, number = at[frequent], number[frequent]
        inside = left[at] >= length
        longer, parent = at[inside], number[inside]
        keys, name = np.unique(parent * 256 + text[longer + length - 1], return_inverse=True)
        counts = np.bincount(name, weight[longer], len(keys))
        if first is not None:  # the substrings of length - 1, of which those that one byte always follows go
            always = np.zeros(len(count), bool)
            if length <= LONGEST:
                always[(keys >> 8)[counts == count[keys >> 8]]] = True
            chosen = np.flatnonzero((count >= min_frequency) & ~always)
            found += [(data[first[i] : first[i] + length - 1], count[i]) for i in chosen]
        first = np.zeros(len(keys), np.int64)
        first[name] = longer
        at, number, count = longer, name, counts
    found = sorted(found, key=lambda pair: (-pair[1] * len(pair[0]), pair[0]))[:SEEDS]
    sizes = [single[token[0]] or 0.5 for token in BYTES] + [count * len(token) for token, count in found]
    sizes = torch.tensor(sizes, dtype=torch.float64)
    return [*BYTES, *(token for token, _ in found)], torch.log(sizes / sizes.sum())


def _kept(tokens, values, stays, lattice):
    """The tokens and values of those that stay; bytes always do."""
    stays[: len(BYTES)] = True
    lattice.renamed(stays)
    return [token for token, kept in zip(tokens, stays.tolist()) if kept], values[stays]


def _worth(lattice, weights, tokens, scores, least):
    """Which tokens a round keeps (V,): those that the likeliest segmentations need most.

    loss = f (ln p - sum of ln p' over its own next best segmentation), where p' are the shares once that has taken
    over its f occurrences. As that segmentation has n tokens there are (n - 1) f more in all.
    """
    frequency, ordered = torch.zeros(len(tokens), dtype=scores.dtype), weights[lattice.order]
    for word, token in lattice.walk(lattice.best(scores, TIE)):
        frequency.index_add_(0, token, ordered[word])
    apart = Lattice(tokens[len(BYTES) :], {token: i for i, token in enumerate(tokens)})
    own = apart.order + len(BYTES)
    apart.into[apart.ends, apart.ends - apart.starts - 1] = len(tokens)  # each written with others
    f, number, gain = frequency[own], torch.zeros(len(own)), torch.zeros(len(own), dtype=scores.dtype)
    for word, token in apart.walk(apart.best(scores, TIE)):
        number[word] += 1
        gain[word] += torch.log(frequency[token] + f[word])
    whole = frequency.sum()
    loss = f * (torch.log(f / whole) - gain + number * torch.log(whole + (number - 1) * f))
    needed = f > 0
    ranked = sorted(
        (-_rounded(value), tokens[i], i) for value, i in zip(loss[needed].tolist(), own[needed].tolist())
    )
    stays = torch.zeros(len(tokens), dtype=torch.bool)
    stays[[i for *_, i in ranked[: max(least, int(SHRINK * (len(tokens) - len(BYTES))))]]] = True
    return stays


def _rounded(value):
    """Six digits: what is equal in exact arithmetic is equal, whatever the order in which it was added up."""
    return float(f"{value:.6g}")


# -- use ----------------------------------------------------------------------------------------------------------


class Unigram(BPE):
    """Encodes and decodes by a UnigramVocabulary. What is not about a single piece is as in BPE."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self._words = _Segmentations(vocabulary)

    def sample(self, text, alpha, seed, special=()):
        """The ids of a random segmentation (subword regularisation, section 3.2 of the paper): (N,).

        Its probability is that of the model to the power alpha, renormalised; 0 is uniform over all segmentations.
        Draw i of the stream STREAM_SEGMENTS decides, where a token ends at byte i of the text, how long it is.
        UserError for a negative alpha, unknown names and lone surrogates.
        """
        if not 0 <= alpha < math.inf:
            raise UserError(f"alpha={alpha} can't be a power of probabilities; give a finite number of at least 0")
        names, ids, place = self.vocabulary.named(special), [], 0
        for part in parts(checked_text(text), names):
            size = len(part.encode())
            if part in names:
                ids.append(names[part])
            else:
                draws = uniform(seed, STREAM_SEGMENTS, (size,), place).tolist()
                for piece in split(part, self.vocabulary.pattern):
                    word = piece.encode()
                    ids += self._words.drawn(word, alpha, draws[: len(word)])
                    draws = draws[len(word) :]
            place += size
        return self._tensor(self._words.packed(ids))


class _Segmentations(PieceCache):
    """{piece: the ids of its likeliest segmentation as bytes}; tokens are found by walking down a trie of dicts."""

    def __init__(self, vocabulary):
        super().__init__(vocabulary)
        self._trie = {}
        for token, i in vocabulary.ids.items():
            node = self._trie
            for byte in token:
                node = node.setdefault(byte, {})
            node[None] = (i, vocabulary.scores[token])

    def found(self, word):
        """The likeliest segmentation of a word; of equally good last tokens the longest."""
        size = len(word)
        best, last, top = [-math.inf] * (size + 1), [None] * (size + 1), self._trie
        best[0] = 0.0
        for start in range(size):
            before, node = best[start], top
            for end in range(start, size):
                node = node.get(word[end])
                if node is None:
                    break
                if None in node:
                    token, score = node[None]
                    if before + score > best[end + 1]:
                        best[end + 1], last[end + 1] = before + score, (start, token)
        ids, place = [], size
        while place:
            place, token = last[place]
            ids.append(token)
        return ids[::-1]

    def drawn(self, word, alpha, draws):
        """A random segmentation of a word."""
        ending = [[] for _ in range(len(word) + 1)]
        for start in range(len(word)):
            node = self._trie
            for end in range(start, len(word)):
                node = node.get(word[end])
                if node is None:
                    break
                if None in node:
                    ending[end + 1].append((start, *node[None]))
        total = [0.0]
        for place in range(1, len(word) + 1):
            terms = [total[start] + alpha * score for start, _, score in ending[place]]
            peak = max(terms)
            shares = [math.exp(term - peak) for term in terms]
            total.append(peak + math.log(math.fsum(shares)))
            ending[place] = ending[place], list(accumulate(shares))
        ids, place = [], len(word)
        while place:
            tokens, shares = ending[place]
            chosen = min(bisect_right(shares, draws[place - 1] * shares[-1]), len(tokens) - 1)
            place, token, _ = tokens[chosen]
            ids.append(token)
        return ids[::-1]
