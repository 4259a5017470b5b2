"""Declarations of WordPiece: training and encoding."""

import functools

import numpy as np

import numpy_ref.tokenizers.wordpiece as numpy_wordpiece
import torch_impl.tokenizers.wordpiece as torch_wordpiece
from numpy_ref.errors import UserError
from numpy_ref.tokenizers.kinds import BYTES, WordPieceVocabulary
from numpy_ref.tokenizers.vocabulary import with_special
from parity_tests.components.bpe import SPECIAL
from parity_tests.components.unigram import ENCODING_EVENTS, FEW, draw_encoding, draw_training, encoded
from parity_tests.harness.declaration import Bug, Component
from parity_tests.texts import PIECES, SURROGATE


def draw_wordpiece_training(source):
    return draw_training(source, sizes=(-1, 0, 1, 8, 20, 40), base=512)


def learnt(function, arguments):
    """Everything in the vocabulary; progress must hear of every merge."""
    heard = []
    try:
        vocabulary = function(**arguments, progress=lambda done, total: heard.append((done, total)))
    except UserError:
        return "refused"
    total = arguments["vocab_size"] - 512 - len(arguments["special"])
    assert heard == [(n, total) for n in range(1, len(vocabulary) - 512 - len(arguments["special"]) + 1)]
    return [list(vocabulary.tokens), sorted(vocabulary.continuing), vocabulary.pattern, list(vocabulary.special.items())]


TRAIN = Component(
    name="wordpiece train",
    numpy=numpy_wordpiece.train,
    torch=torch_wordpiece.train,
    draw=draw_wordpiece_training,
    call=learnt,
    exact=True,
    dtypes=("float64",),
    events=("several texts", SURROGATE, "gpt2", "gpt4", "special tokens", "too small", *FEW),
    compiles=False,
    bugs=(
        Bug("by frequency, as BPE", "numpy", "gain = count * ((math.log(count) + whole) - (logs[pair[0]] + logs[pair[1]]))", "gain = float(count)", function="_best_pair"),
        Bug("the ratio alone", "numpy", "gain = count * (", "gain = 1.0 * (", function="_best_pair"),
        Bug("the number of all tokens forgotten", "numpy", "+ whole)", "+ 0.0)", function="_best_pair"),
        Bug("of equals the largest ids", "numpy", "best = min(best or (-gain, pair), (-gain, pair))", "best = min(best or (-gain, (-pair[0], -pair[1])), (-gain, (-pair[0], -pair[1])))\n    best = best and (best[0], (-best[1][0], -best[1][1]))", function="_best_pair"),
        Bug("every byte begins a piece", "numpy", "len(BYTES) * (place > 0)", "0", function="_in_bytes"),
        Bug("the least frequency is not enough", "numpy", "count >= min_frequency", "count > min_frequency", function="_best_pair"),
        Bug("counts of single tokens stay", "torch", "self.single[token] -= made", "self.single[token] -= 0", function="join"),
        Bug("the number of all tokens stays", "torch", "self.whole -= made", "self.whole -= 0", function="join"),
        Bug("logarithms out of date", "torch", "for token in (*pair, new):", "for token in (new,):", function="join"),
        Bug("of a run every neighbour", "torch", "made = sum(self.weights[index] * self.words[index].count(new) for index in touched)", "made = sum(self.weights[index] for index in touched)", function="join"),
        Bug("counts that fell are not seen", "torch", "self.changed.add(key)", "self.changed.add(key) if value > self.get(key, 0) else None", function="__setitem__"),
        Bug("the first of equals", "torch", "return min(zip(*self.pairs[:, np.flatnonzero(gain == largest)].tolist()))", "return next(zip(*self.pairs[:, np.flatnonzero(gain == largest)].tolist()))", function="best"),
    ),
)  # fmt: skip

KINDS = ("learnt", "random", "bytes alone")


@functools.cache
def vocabulary(kind, pattern):
    """One learnt, one of random substrings, which no merges explain, and bytes alone."""
    if kind == "learnt":
        return torch_wordpiece.train([*PIECES.values(), " ".join(PIECES.values())] * 2, 700, pattern, SPECIAL, 1)
    tokens, rng = [*BYTES, *BYTES], np.random.default_rng(7)
    found = []
    if kind == "random":
        text = " ".join(PIECES.values()).encode()
        found = {(text[i : i + rng.integers(2, 7)], bool(rng.integers(2))) for i in rng.integers(0, len(text), 400)}
        special = {name.encode() for name in SPECIAL}
        found = sorted(pair for pair in found if len(pair[0]) > 1 and pair[0] not in special)
    continuing = [*range(256, 512), *(512 + i for i, (_, goes_on) in enumerate(found) if goes_on)]
    tokens += [token for token, _ in found]
    return with_special(WordPieceVocabulary(tuple(tokens), frozenset(continuing), pattern), SPECIAL)


ENCODE = Component(
    name="wordpiece encode",
    numpy=numpy_wordpiece.WordPiece,
    torch=torch_wordpiece.WordPiece,
    draw=lambda source: draw_encoding(source, vocabulary, KINDS),
    call=encoded,
    exact=True,
    dtypes=("float64",),
    events=(*KINDS, *ENCODING_EVENTS),
    compiles=False,
    bugs=(
        Bug("the shortest match", "numpy", "end = min(len(piece), start + self.vocabulary.longest)", "end = start + 1", function="_word"),
        Bug("every token begins a piece", "numpy", "self.vocabulary.continuing_ids, end", "self.vocabulary.ids, end", function="_word"),
        Bug("every token goes on", "numpy", "known, ids, start = self.vocabulary.ids", "known, ids, start = self.vocabulary.continuing_ids", function="_word"),
        Bug("tokens of few bytes alone", "numpy", "start + self.vocabulary.longest", "start + 3", function="_word"),
        Bug("the walk ends at the first token", "torch", "longest, end = node[None], place", "longest, end = node[None], place\n                    break", function="found"),
        Bug("always among those that begin", "torch", "start, root = end, self._later", "start, root = end, self._first", function="found"),
        Bug("a byte passed over", "torch", "node, place = root, start", "node, place = root, min(start + (start > 7), len(word) - 1)", function="found", needs=("long piece",)),
        Bug("those that go on from the beginning", "torch", "ids, start, root = [], 0, self._first", "ids, start, root = [], 0, self._later", function="found"),
    ),
)  # fmt: skip

COMPONENTS = (TRAIN, ENCODE)
