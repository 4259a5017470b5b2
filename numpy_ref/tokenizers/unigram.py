"""The unigram tokenizer (arXiv:1804.10959): every token has a probability, a text its likeliest segmentation.

Training goes the other way round than BPE's: it begins with every frequent substring of the pieces and takes away, round
by round, the tokens whose loss hurts the likelihood least. How often a token occurs is not known, since the segmentation
is hidden, so probabilities are learnt by expectation maximisation.
"""

import math
from collections import Counter

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_SEGMENTS, uniform
from numpy_ref.tokenizers.bpe import BPE
from numpy_ref.tokenizers.kinds import BYTES, UnigramVocabulary
from numpy_ref.tokenizers.pretokenize import parts
from numpy_ref.tokenizers.pretokenize import pattern as split_pattern
from numpy_ref.tokenizers.segmentation import best, drawn, log_likelihood, maximise
from numpy_ref.tokenizers.vocabulary import checked_text, with_special

LONGEST = 16  # bytes of a token
SEEDS = 1 << 20  # substrings that training begins with
SHRINK = 0.75  # share of the tokens that a round keeps
SURPLUS = 1.1  # rounds end with so many times the tokens asked for; of those the likeliest stay
RARE = 0.4999  # a token that is expected to occur less often goes (SentencePiece has 0.5, which two equal ways make)
TIE = 1e-9  # log probabilities that differ less are equal but for rounding
GRAIN = 2.0**-12  # scores of a vocabulary are multiples of this: sums are exact, and equals tie in every program


# -- training -----------------------------------------------------------------------------------------------------


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None):
    """Learn a UnigramVocabulary of ``vocab_size`` tokens from an iterable of str: 256 bytes, tokens, special tokens.

    Begins with the substrings of up to LONGEST bytes that occur ``min_frequency`` times inside pieces. A round is two EM
    steps and one pruning, down to SHRINK of the tokens; the last round's tokens are sorted by probability. Bytes always
    stay. Tokens are in the order of their probability; training ends with fewer where the text does not give more.
    Special tokens get the last ids. progress(asked for, there) hears of every round.

    Of equal tokens the one that is smaller as bytes comes first, and what is rounding is equal (TIE). In the end the
    scores are rounded to multiples of GRAIN.
    Raises UserError for a vocabulary too small for the bytes and the special tokens.
    """
    total = vocab_size - len(BYTES) - len(special)
    if total < 0:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 256 bytes and {len(special)} special tokens come first; "
            f"give at least {256 + len(special)}"
        )
    pieces = Counter()
    for text in texts:
        pieces.update(split_pattern(pattern).findall(checked_text(text)))
    words, weights = [piece.encode() for piece in pieces], np.array(list(pieces.values()), np.float64)
    tokens, scores = _seeds(dict(zip(words, weights)), min_frequency)
    while True:
        for _ in range(2):
            tokens, scores = _expect_and_maximise(words, weights, tokens, scores)
        if progress:
            progress(total, max(total, len(tokens) - len(BYTES)))
        if len(tokens) - len(BYTES) <= math.ceil(SURPLUS * total):
            break
        tokens, scores = _pruned(words, weights, tokens, scores, math.ceil(SURPLUS * total))
    order = sorted(range(len(BYTES), len(tokens)), key=lambda i: (-_rounded(scores[i]), tokens[i]))
    chosen = [*range(len(BYTES)), *order[:total]]
    learnt = {tokens[i]: round(float(scores[i]) / GRAIN) * GRAIN for i in chosen}
    found = UnigramVocabulary(tuple(learnt), learnt, pattern)
    return with_special(found, special)


def _seeds(words, min_frequency):
    """The tokens to begin with and their scores: bytes, then substrings by count * length.

    A substring that is always followed by the same byte is left out: the longer one does its work.
    """
    counts = Counter()
    for word, weight in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + LONGEST, len(word)) + 1):
                counts[word[start:end]] += weight
    always = {longer[:-1] for longer, count in counts.items() if counts[longer[:-1]] == count}
    found = [token for token in counts if len(token) > 1 and counts[token] >= min_frequency and token not in always]
    found = sorted(found, key=lambda token: (-counts[token] * len(token), token))[:SEEDS]
    sizes = [counts[token] or 0.5 for token in BYTES] + [counts[token] * len(token) for token in found]
    return [*BYTES, *found], np.log(np.array(sizes) / np.sum(sizes))


def _expect_and_maximise(words, weights, tokens, scores):
    """One EM step, after which tokens that hardly occur are gone: (tokens, scores)."""
    _, vjp = log_likelihood(words, weights, {token: i for i, token in enumerate(tokens)}, scores)
    counts = vjp(1.0)
    stays = [len(token) == 1 or count >= RARE for token, count in zip(tokens, counts)]
    tokens = [token for token, kept in zip(tokens, stays) if kept]
    return tokens, maximise(np.maximum(counts[stays], RARE))


def _pruned(words, weights, tokens, scores, least):
    """The tokens without those whose removal costs least: (tokens, scores).

    A token that no likeliest segmentation uses goes. Without token v, its f_v occurrences in the likeliest segmentations
    fall to the n tokens of its own next best segmentation:

        loss_v = f_v (ln p_v - sum over these a of ln p_a),    p_v = f_v / F,    p_a = (f_a + f_v) / (F + (n - 1) f_v)

    n belongs to v; the number of all tokens in its place is a mistake that libraries have made.
    """
    index, values = {token: i for i, token in enumerate(tokens)}, scores.tolist()
    frequency = np.zeros(len(tokens))
    for word, weight in zip(words, weights):
        for token in best(word, index, values, TIE)[1]:
            frequency[token] += weight
    whole, losses = np.sum(frequency), {}
    for v, token in enumerate(tokens):
        f = frequency[v]
        if len(token) > 1 and f > 0:
            others = best(token, index, values, TIE, whole=False)[1]
            after = math.log(whole + (len(others) - 1) * f)
            losses[token] = f * (math.log(f / whole) - sum(math.log(frequency[a] + f) - after for a in others))
    count = max(least, int(SHRINK * (len(tokens) - len(BYTES))))
    kept = set(sorted(losses, key=lambda token: (-_rounded(losses[token]), token))[:count])
    stays = [len(token) == 1 or token in kept for token in tokens]
    return [token for token, stay in zip(tokens, stays) if stay], scores[stays]


def _rounded(value):
    """Six digits: what is equal in exact arithmetic is equal, whatever the order in which it was added up."""
    return float(f"{value:.6g}")


# -- use ----------------------------------------------------------------------------------------------------------


class Unigram(BPE):
    """Text to token ids and back, by a UnigramVocabulary. All but the cutting of a piece is as in BPE."""

    def __init__(self, vocabulary):
        super().__init__(vocabulary)
        self._ids, self._index = list(vocabulary.ids.values()), {token: i for i, token in enumerate(vocabulary.ids)}
        self._scores = [vocabulary.scores[token] for token in vocabulary.ids]

    def sample(self, text, alpha, seed, special=()):
        """The ids of a segmentation drawn at random: subword regularisation (section 3.2 of the paper).

            P(segmentation) = (prod p(token))^alpha / Z_alpha

        alpha: 1 draws from the model, larger ones prefer what ``encode`` gives, 0 makes all segmentations alike. The
        draws are numbers of the stream STREAM_SEGMENTS of ``seed``, one for each byte of the text; that of the last byte
        of a token chooses how long it is, from the end to the beginning, longer ones first.

        str -> (n,), as ``encode``. Raises UserError for an alpha below 0, and as ``encode``.
        """
        if not 0 <= alpha < math.inf:
            raise UserError(f"alpha={alpha} is not allowed; it must be a finite number of at least 0")
        names, ids, place = self.vocabulary.named(special), [], 0
        for part in parts(checked_text(text), names):
            if part in names:
                ids.append(names[part])
                place += len(part.encode())
                continue
            for piece in split_pattern(self.vocabulary.pattern).findall(part):
                word = piece.encode()
                draws = uniform(seed, STREAM_SEGMENTS, (len(word),), place)
                ids.extend(self._ids[token] for token in drawn(word, self._index, alpha * np.array(self._scores), draws))
                place += len(word)
        return np.array(ids, self.vocabulary.dtype)

    def _word(self, piece):
        """The ids of one piece: its likeliest segmentation."""
        return [self._ids[token] for token in best(piece, self._index, self._scores)[1]]
