"""BoundlessBPE (arXiv:2504.00178, arXiv:2604.05192) for much text: runs of words are counted once, counts are kept."""

import heapq
from collections import Counter, defaultdict
from itertools import groupby

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.kinds import BYTES, BoundlessVocabulary
from numpy_ref.tokenizers.pretokenize import chunks, has_letter, parts, split
from numpy_ref.tokenizers.vocabulary import checked_text, trained, with_special
from torch_impl.tokenizers.bpe import BPE, MergeCache, batches, join_pairs, merges_of
from torch_impl.tokenizers.processes import in_processes

TORCH_EXTRA_ARGUMENTS = {"workers"}

_SHARE, _CHUNK = 1 << 20, 1 << 14  # characters a process takes at a time; characters that are cut at a time


def train(texts, vocab_size, pattern="gpt4", special=(), min_frequency=2, progress=None, workers=None):
    """Learn a BoundlessVocabulary of ``vocab_size`` tokens from an iterable of str, which is gone through once.

    First BPE; then its merges in order, before each of which the most frequent pairs of neighbouring words, if they are
    single tokens, are joined as long as they occur more often than the merge did. Of equals the smallest pair of ids.
    No superword has the bytes of another token. What is held of the texts are the different pieces and the different runs
    of words. progress(done, total) hears of every merge of BPE; workers: processes that count.
    UserError for a vocabulary too small for the bytes and the special tokens, and for lone surrogates.
    """
    total = vocab_size - len(BYTES) - len(special)
    if total < 0:
        raise UserError(
            f"vocab_size={vocab_size} is too small: 256 bytes and {len(special)} special tokens come first; "
            f"give at least {256 + len(special)}"
        )
    pieces, runs = Counter(), Counter()
    cut = (chunk for text in texts for chunk in chunks([text], _SHARE, lines=True))
    for some_pieces, some_runs in in_processes(_count, pattern, batches(cut), workers):
        pieces.update(some_pieces)
        runs.update(some_runs)
    merges = merges_of(pieces, total, min_frequency, progress)
    learnt = trained([pair for pair, _ in merges], pattern, ())
    words, weights = _single_tokens(runs, BPE(learnt))
    counts = [count for _, count in merges]
    passed, supermerges, made = _compete(words, weights, counts, list(learnt.tokens), total, min_frequency)
    first, kept = len(learnt), len(BYTES) + passed
    supermerges = tuple(tuple(i - first + kept if i >= first else i for i in pair) for pair in supermerges)
    vocabulary = BoundlessVocabulary((*learnt.tokens[:kept], *made), learnt.merges[:passed], supermerges, pattern)
    return with_special(vocabulary, special)


def _count(pattern, texts):
    """The pieces of some texts and the runs of neighbouring words in them, with their counts."""
    pieces, runs, is_word = Counter(), Counter(), {}
    for text in texts:
        found = split(checked_text(text), pattern)
        pieces.update(found)
        run = []
        for piece in found:
            word = is_word.get(piece)
            if word is None:
                word = is_word[piece] = has_letter(piece)
            if word:
                run.append(piece)
            elif run:
                runs[tuple(run)] += 1
                run = []
        if run:
            runs[tuple(run)] += 1
    return pieces, runs


def _single_tokens(runs, bpe):
    """The runs in ids, cut where a word is no single token: (lists of at least two ids, their counts)."""
    found, known = Counter(), {}
    for piece in {piece for run in runs for piece in run}:
        ids = bpe.encode(piece).tolist()
        known[piece] = ids[0] if len(ids) == 1 else None
    for run, count in runs.items():
        for cut, ids in groupby(map(known.get, run), key=lambda token: token is None):
            ids = () if cut else tuple(ids)
            if len(ids) > 1:
                found[ids] += count
    return [list(ids) for ids in found], list(found.values())


def _compete(words, weights, frequencies, tokens, total, least):
    """Merges and supermerges for ``total`` places: (merges passed, supermerges, bytes of what these make).

    The heap never promises too little, see ``bpe.merges_of``.
    """
    first, counts, places = len(tokens), defaultdict(int), defaultdict(list)
    for index, word in enumerate(words):
        for pair in zip(word, word[1:]):
            counts[pair] += weights[index]
            places[pair].append(index)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    passed, supermerges, known = 0, [], set(tokens)
    while passed + len(supermerges) < total:
        enough = max(least - 1, frequencies[passed] if passed < len(frequencies) else 0)
        if heap and -heap[0][0] > enough:
            promised, pair = heapq.heappop(heap)
            if counts[pair] != -promised:
                heapq.heappush(heap, (-counts[pair], pair))
                continue
            made = tokens[pair[0]] + tokens[pair[1]]
            if made not in known:
                new = len(tokens)
                tokens.append(made)
                known.add(made)
                supermerges.append(pair)
                for grown in join_pairs(pair, new, words, weights, counts, places):
                    heapq.heappush(heap, (-counts[grown], grown))
        elif passed < len(frequencies):
            passed += 1
        else:
            break
    return passed, supermerges, tokens[first:]


class BoundlessBPE(BPE):
    """Encodes and decodes by a BoundlessVocabulary."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self._words = _Runs(vocabulary)

    def _encoded(self, text, special, workers=1):
        """The ids of a text as bytes, part after part; cut where no run of words goes on."""
        names = self.vocabulary.named(special)
        for part in parts(checked_text(text), names):
            if part in names:
                yield self._words.packed([names[part]])
            else:
                yield from in_processes(_encode, self._words, chunks([part], _SHARE, lines=True), workers)


def _encode(runs, text):
    """The ids of a text without special tokens, as bytes."""
    out, run = [], []
    for chunk in chunks([text], _CHUNK):
        for ids in map(runs.__getitem__, split(chunk, runs.vocabulary.pattern)):
            if type(ids) is int:
                run.append(ids)
                continue
            if run:
                out.append(runs.packed(runs.joined(run)))
                run = []
            out.append(ids)
    if run:
        out.append(runs.packed(runs.joined(run)))
    return b"".join(out)


class _Runs(MergeCache):
    """{piece: its id, if it is a word and a single token, else its ids as bytes}; joins runs of such ids."""

    def __init__(self, vocabulary):
        super().__init__(vocabulary, vocabulary.super_ranks)
        self._pieces = MergeCache(vocabulary)

    def value(self, piece):
        ids = self._pieces.found(piece.encode())
        return ids[0] if len(ids) == 1 and has_letter(piece) else self.packed(ids)
