"""BoundlessBPE (arXiv:2504.00178) in two phases (arXiv:2604.05192): byte pair encoding beyond the borders of pieces.

Once the common words are tokens, BPE has only rare ones left to merge. Here a merge may also join two neighbouring
pieces, each of which is a single token by then: " of" and " the" become the superword " of the".
"""

from collections import Counter
from itertools import groupby

import numpy as np

from numpy_ref.tokenizers import bpe
from numpy_ref.tokenizers.bpe import BPE, merged
from numpy_ref.tokenizers.kinds import BYTES, BoundlessVocabulary
from numpy_ref.tokenizers.pretokenize import has_letter, parts
from numpy_ref.tokenizers.pretokenize import pattern as split_pattern
from numpy_ref.tokenizers.vocabulary import PLACES, checked_text, with_special


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None):
    """Learn a BoundlessVocabulary of ``vocab_size`` tokens from an iterable of str: 256 bytes, merges, supermerges,
    special tokens.

    Phase 1 is BPE: as many merges as fit, each with the number of pairs that it joined.
    Phase 2 takes the pieces that phase 1 left as single tokens and that hold a letter; neighbours make runs. The merges
    are now gone through again: the most frequent pair of neighbours in the runs is joined if it is more frequent than the
    next merge was, which is passed otherwise. So merges and supermerges compete for the same places as if they had been
    learnt together, and rare merges at the end give way. The tokens of a pair that wins have been passed: no merge joins
    more pairs than one before it, and a pair of words is no more frequent than either of them.

    Of pairs with the same count the smallest ids come first. A pair whose bytes are a token already is not joined.
    progress(done, total) hears of every merge of phase 1. Raises UserError as ``bpe.train``.
    """
    texts = [checked_text(text) for text in texts]
    learnt, total = bpe.train(texts, vocab_size, pattern, special, min_frequency, progress), vocab_size - len(special)
    counts, runs = _counts(texts, learnt), _runs(texts, learnt)
    tokens, passed, supermerges = list(learnt.tokens[: len(BYTES) + len(learnt.merges)]), 0, []
    known = set(tokens)
    first = len(tokens)  # the id that the first supermerge has in this phase
    while len(BYTES) + passed + len(supermerges) < total:
        best = _best_pair(runs, tokens, known)
        if best and best[0] >= min_frequency and best[0] > (counts[passed] if passed < len(counts) else 0):
            runs = {merged(run, best[1], len(tokens)): count for run, count in runs.items()}
            tokens.append(tokens[best[1][0]] + tokens[best[1][1]])
            known.add(tokens[-1])
            supermerges.append(best[1])
        elif passed < len(counts):
            passed += 1
        else:
            break
    kept = len(BYTES) + passed
    supermerges = [tuple(i - first + kept if i >= first else i for i in pair) for pair in supermerges]
    tokens = (*tokens[:kept], *tokens[first:])
    vocabulary = BoundlessVocabulary(tokens, learnt.merges[:passed], tuple(supermerges), pattern)
    return with_special(vocabulary, special)


def _counts(texts, learnt):
    """How many pairs each merge of BPE joined: the merges once more, one after the other."""
    pieces = Counter(piece for text in texts for piece in split_pattern(learnt.pattern).findall(text))
    words = {tuple(PLACES[byte] for byte in piece.encode()): count for piece, count in pieces.items()}
    counts = []
    for new, pair in enumerate(learnt.merges, len(BYTES)):
        counts.append(sum(count * list(zip(word, word[1:])).count(pair) for word, count in words.items()))
        words = {merged(word, pair, new): count for word, count in words.items()}
    return counts


def _runs(texts, learnt):
    """{ids of neighbouring pieces that are words and single tokens: how often they stand so}."""
    runs, encoder = Counter(), BPE(learnt)
    for text in texts:
        pieces = split_pattern(learnt.pattern).findall(text)
        words = [encoder.encode(piece).tolist() * has_letter(piece) for piece in pieces]
        for single, run in groupby(words, key=lambda ids: len(ids) == 1):
            if single:
                runs[tuple(ids[0] for ids in run)] += 1
    return runs


def _best_pair(runs, tokens, known):
    """(count, pair) of the most frequent neighbours, or None."""
    counts = Counter()
    for run, count in runs.items():
        for pair in zip(run, run[1:]):
            counts[pair] += count
    new = [pair for pair in counts if tokens[pair[0]] + tokens[pair[1]] not in known]
    best = min(new, key=lambda pair: (-counts[pair], pair), default=None)
    return best and (counts[best], best)


class BoundlessBPE(BPE):
    """Text to token ids and back, by a BoundlessVocabulary."""

    def encode(self, text, special=()):
        """The ids of a text: str -> (n,), in the vocabulary's dtype.

        Each piece by its merges; then neighbouring pieces that are words and single tokens by the supermerges, the one
        of the lowest rank first. Special tokens and errors as in BPE.
        """
        names = self.vocabulary.named(special)
        ids = []
        for part in parts(checked_text(text), names):
            if part in names:
                ids.append(names[part])
                continue
            run = []
            for piece in split_pattern(self.vocabulary.pattern).findall(part):
                word = self._word(piece.encode())
                if len(word) == 1 and has_letter(piece):
                    run.append(word[0])
                else:
                    ids.extend((*self._joined(run), *word))
                    run = []
            ids.extend(self._joined(run))
        return np.array(ids, self.vocabulary.dtype)

    def _joined(self, run):
        """The ids of a run, joined by the supermerge of the lowest rank that fits, until none does."""
        run, ranks = tuple(run), self.vocabulary.super_ranks
        while len(run) > 1:
            pair = min(zip(run, run[1:]), key=lambda pair: ranks.get(pair, (len(ranks),)))
            if pair not in ranks:
                break
            run = merged(run, pair, ranks[pair][1])
        return run
