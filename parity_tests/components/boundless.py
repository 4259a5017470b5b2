"""Declarations of BoundlessBPE: training and encoding."""

import functools

import numpy as np

import numpy_ref.tokenizers.boundless as numpy_boundless
import torch_impl.tokenizers.boundless as torch_boundless
from numpy_ref.errors import UserError
from parity_tests.components.bpe import SPECIAL
from parity_tests.components.unigram import ENCODING_EVENTS, draw_encoding, draw_training, encoded
from parity_tests.harness.declaration import Bug, Component
from parity_tests.texts import PIECES, SURROGATE

PHRASES = {
    "of the": " of the cat of the hat",
    "repeated word": " the the the the the",
    "digits between": " of 1 the of 2 the of the",
    "lines": "the cat\nthe hat\r\nof the\n",
    "single letters": " a b a b a b c",
    "unlike": " the quick brown fox jumps over a lazy dog",
    "possessive": "the cat's hat's cat's",
}


def draw_phrases(source):
    case = draw_training(source, most=1, sizes=(-1, 0, 5, 20, 20, 40, 60, 60))
    kinds = [source.choice(*PHRASES) for _ in range(source.integer(0, 5))]
    for kind in kinds:
        source.event(kind)
    texts = [PHRASES[kind] * source.choice(1, 1, 2, 5) for kind in kinds] + case.static["texts"]
    return source.case({}, **case.static | {"texts": texts})


def learnt(function, arguments):
    try:
        vocabulary = function(**arguments)
    except UserError:
        return "refused"
    merges, supermerges = (np.array(m, np.int64).reshape(-1, 2) for m in (vocabulary.merges, vocabulary.supermerges))
    return [merges, supermerges, vocabulary.pattern, list(vocabulary.tokens), list(vocabulary.special.items())]


TRAIN = Component(
    name="boundless train",
    numpy=numpy_boundless.train,
    torch=torch_boundless.train,
    draw=draw_phrases,
    call=learnt,
    exact=True,
    dtypes=("float64",),
    events=(SURROGATE, "gpt2", "gpt4", "special tokens", "too small", *PHRASES),
    compiles=False,
    bugs=(
        Bug("a tie goes to the supermerge", "numpy", "best[0] > (counts", "best[0] >= (counts"),
        Bug("supermerges on top", "numpy", "while len(BYTES) + passed + len(supermerges) < total", "while len(BYTES) + passed < total"),
        Bug("pieces without letters too", "numpy", "* has_letter(piece)", "* 1", function="_runs"),
        Bug("runs counted once", "numpy", "counts[pair] += count", "counts[pair] += 1", function="_best_pair"),
        Bug("words in pieces do not cut", "numpy", "in groupby(words, key=lambda ids: len(ids) == 1):", "in [(True, [ids for ids in words if len(ids) == 1])]:", function="_runs"),
        Bug("of equals the largest ids", "numpy", "(-counts[pair], pair)", "(-counts[pair], -pair[0], -pair[1])", function="_best_pair"),
        Bug("counts of the words alone", "numpy", "sum(count * list(", "sum(list(", function="_counts"),
        Bug("the least frequency is not enough", "numpy", "best[0] >= min_frequency", "best[0] > min_frequency"),
        Bug("new pairs never come up", "torch", "heapq.heappush(heap, (-counts[grown], grown))", "pass", function="_compete"),
        Bug("counts out of date believed", "torch", "counts[pair] != -promised", "counts[pair] <= 0", function="_compete"),
        Bug("runs go over other pieces", "torch", "            elif run:\n                runs[tuple(run)] += 1\n                run = []\n", "", function="_count"),
        Bug("ids of the second phase stay", "torch", "i - first + kept if i >= first else i", "i"),
    ),
)  # fmt: skip

KINDS = ("learnt", "words alone")


@functools.cache
def vocabulary(kind, pattern):
    texts = [*PIECES.values(), *(5 * phrase for phrase in PHRASES.values()), " ".join(PIECES.values())] * 2
    return torch_boundless.train(texts if kind == "learnt" else texts[:3], 500, pattern, SPECIAL, 1)


def draw_phrase_encoding(source):
    case = draw_encoding(source, vocabulary, KINDS)
    kinds = [source.choice(*PHRASES) for _ in range(source.integer(0, 3))]
    for kind in kinds:
        source.event(kind)
    text = case.static["text"] + "".join(map(PHRASES.get, kinds))
    return source.case({}, **case.static | {"text": text})


ENCODE = Component(
    name="boundless encode",
    numpy=numpy_boundless.BoundlessBPE,
    torch=torch_boundless.BoundlessBPE,
    draw=draw_phrase_encoding,
    call=encoded,
    exact=True,
    dtypes=("float64",),
    events=(*KINDS, *ENCODING_EVENTS, *PHRASES),
    compiles=False,
    bugs=(
        Bug("no supermerges", "numpy", "ids.extend((*self._joined(run), *word))", "ids.extend((*run, *word))", function="encode"),
        Bug("none at the end", "numpy", "            ids.extend(self._joined(run))\n", "            ids.extend(run)\n", function="encode"),
        Bug("runs go over other pieces", "numpy", "                    ids.extend((*self._joined(run), *word))\n                    run = []\n", "                    ids.extend(word)\n", function="encode"),
        Bug("the last supermerge first", "numpy", "ranks.get(pair, (len(ranks),))", "(-ranks.get(pair, (-1,))[0],)", function="_joined", needs=("repeated word", "learnt")),
        Bug("the rank of a supermerge for its token", "numpy", "ranks[pair][1]", "ranks[pair][0]", function="_joined"),
        Bug("words stay apart", "torch", "runs.packed(runs.joined(run))", "runs.packed(run)", function="_encode", count=2),
        Bug("supermerges inside words", "torch", "self._pieces = MergeCache(vocabulary)", "self._pieces = MergeCache(vocabulary, vocabulary.super_ranks)", function="_Runs"),
        Bug("the last run is lost", "torch", "    if run:\n        out.append(runs.packed(runs.joined(run)))\n    return", "    return", function="_encode"),
    ),
)  # fmt: skip

COMPONENTS = (TRAIN, ENCODE)
