"""Declarations of the unigram tokenizer: training, encoding, sampling."""

import functools

import numpy as np

import numpy_ref.tokenizers.unigram as numpy_unigram
import torch_impl.tokenizers.unigram as torch_unigram
from numpy_ref.errors import UserError
from numpy_ref.tokenizers.kinds import BYTES, UnigramVocabulary
from numpy_ref.tokenizers.vocabulary import with_special
from parity_tests.components.bpe import SPECIAL
from parity_tests.components.byte import or_refusal
from parity_tests.harness.declaration import Bug, Component
from parity_tests.texts import MARKER, PIECES, SURROGATE, TEXTS, draw_text

FEW = ("words", "run of one letter", "accents", "contractions", "digits", "spaces before a line end")


PROSE = "the theory of the theatre is thin; there the thieves thrive, then they think of their thirst"


def draw_training(source, most=4, sizes=(-1, 0, 1, 8, 8, 20, 20), base=256):
    """Few short texts, in which much repeats."""
    kinds = [source.choice(*FEW) for _ in range(source.integer(0, most))]
    for kind in kinds:
        source.event(kind)
    found = [PIECES[kind] * source.choice(1, 2) for kind in kinds]
    if source.integer(0, 3) == 0:
        found.append(PROSE)
        source.event("prose")
    source.event("several texts", len(found) > 1)
    if source.integer(0, 9) == 0:
        found.append(TEXTS[SURROGATE])
        source.event(SURROGATE)
    pattern, special = source.choice("gpt2", "gpt4"), source.choice((), SPECIAL)
    source.event(pattern)
    source.event("special tokens", bool(special))
    size = base + len(special) + source.choice(*sizes)
    source.event("too small", size < base + len(special))
    least = source.choice(1, 2, 2, 3)
    return source.case({}, texts=found, vocab_size=size, pattern=pattern, special=special, min_frequency=least)


def learnt(function, arguments):
    """Tokens, and scores in grains: the sides add them up in different orders. Progress hears of every round."""
    heard = []
    try:
        vocabulary = function(**arguments, progress=lambda done, total: heard.append((done, total)))
    except UserError:
        return "refused"
    asked = arguments["vocab_size"] - 256 - len(arguments["special"])
    assert heard and all(done == asked <= total for done, total in heard)
    scores = np.array([vocabulary.scores[token] for token in vocabulary.ids])
    rounded = (scores / numpy_unigram.GRAIN).astype(np.int64)
    assert (rounded * numpy_unigram.GRAIN == scores).all()
    return [rounded, vocabulary.pattern, list(vocabulary.tokens), list(vocabulary.special.items()), len(heard)]


TRAIN = Component(
    name="unigram train",
    numpy=numpy_unigram.train,
    torch=torch_unigram.train,
    draw=draw_training,
    call=learnt,
    exact=True,
    dtypes=("float64",),
    events=("several texts", SURROGATE, "gpt2", "gpt4", "special tokens", "too small", "prose", *FEW),
    weight=2,
    compiles=False,
    bugs=(
        Bug("the tokens of all in place of those of one", "numpy", "(len(others) - 1) * f", "(len(tokens) - 1) * f", function="_pruned", needs=("prose",)),
        Bug("losses not weighted by frequency", "numpy", "losses[token] = f * (", "losses[token] = (", function="_pruned"),
        Bug("one EM step a round", "numpy", "range(2)", "range(1)"),
        Bug("substrings across pieces", "numpy", "split_pattern(pattern).findall(checked_text(text))", "[checked_text(text)]"),
        Bug("seeds by count alone", "numpy", "counts[token] * len(token) for token in found]", "counts[token] for token in found]", function="_seeds"),
        Bug("seeds that one byte always follows", "numpy", " and token not in always", "", function="_seeds"),
        Bug("rare tokens stay", "numpy", "count >= RARE", "count >= 0", function="_expect_and_maximise"),
        Bug("the longest tokens in place of the likeliest", "numpy", "(-_rounded(scores[i]), tokens[i])", "(-len(tokens[i]), tokens[i])"),
        Bug("the least frequency is not enough", "torch", "count[number] >= min_frequency", "count[number] > min_frequency", function="_seeds"),
        Bug("substrings over the end of a word", "torch", "inside = left[at] >= length", "inside = left[at] >= length - 1", function="_seeds"),
        Bug("own place taken for another way", "torch", "    apart.into[apart.ends, apart.ends - apart.starts - 1] = len(tokens)  # each written with others\n", "", function="_worth"),
        Bug("frequencies in the lattice's order", "torch", "ordered[word]", "weights[word]", function="_worth", needs=("prose",)),
        Bug("most tokens go in a round", "torch", "int(SHRINK * (", "int(0.3 * (", function="_worth", needs=("prose",)),
        Bug("no surplus", "torch", "math.ceil(SURPLUS * total)", "total"),
    ),
)  # fmt: skip


@functools.cache
def vocabulary(kind, pattern):
    """One learnt, one of random substrings whose scores no frequency explains, and one of bytes that are equally likely."""
    if kind == "learnt":
        return torch_unigram.train([*PIECES.values(), " ".join(PIECES.values())], 420, pattern, SPECIAL, 1)
    tokens, rng = list(BYTES), np.random.default_rng(5)
    if kind == "random":
        text = " ".join(PIECES.values()).encode()
        places = rng.integers(0, len(text), 400)
        found = {text[place : place + rng.integers(2, 7)] for place in places} - {name.encode() for name in SPECIAL}
        tokens += sorted(token for token in found if len(token) > 1)
    scores = rng.uniform(-9, -2, len(tokens)) if kind == "random" else np.full(len(tokens), -5.5)
    if kind == "random":
        scores = np.round(4 * scores) / 4  # many equal sums among them
    return with_special(UnigramVocabulary(tuple(tokens), dict(zip(tokens, scores.tolist())), pattern), SPECIAL)


KINDS = ("learnt", "random", "bytes alone")


def draw_encoding(source, known=vocabulary, kinds=KINDS):
    kind, pattern = source.choice(*kinds), source.choice("gpt2", "gpt4")
    source.event(kind)
    source.event(pattern)
    text = draw_text(source)
    if source.integer(0, 9) == 0:
        text += TEXTS[SURROGATE]
        source.event(SURROGATE)
    special = source.choice((), (), (MARKER,), SPECIAL, ("<|none|>",))
    source.event("asked for and there", MARKER in special and MARKER in text)
    source.event("there and not asked for", MARKER not in special and MARKER in text)
    source.event("unknown name", "<|none|>" in special)
    return source.case({}, vocabulary=known(kind, pattern), text=text, special=special)


ENCODING_EVENTS = ("gpt2", "gpt4", SURROGATE, "asked for and there", "there and not asked for", "unknown name", *PIECES)


def encoded(tokenizer, arguments):
    return or_refusal(tokenizer(arguments["vocabulary"]).encode, {name: arguments[name] for name in ("text", "special")})


ENCODE = Component(
    name="unigram encode",
    numpy=numpy_unigram.Unigram,
    torch=torch_unigram.Unigram,
    draw=draw_encoding,
    call=encoded,
    exact=True,
    dtypes=("float64",),
    events=(*KINDS, *ENCODING_EVENTS),
    compiles=False,
    bugs=(
        Bug("a whole part at once", "numpy", "best(piece, self._index, self._scores)[1]", "best(piece, self._index, [0.0] * len(self._scores))[1]", function="_word"),
        Bug("the least likely way", "numpy", "self._scores = [vocabulary.scores[token]", "self._scores = [-vocabulary.scores[token]"),
        Bug("places in the table for ids", "numpy", "self._ids, self._index = list(vocabulary.ids.values())", "self._ids, self._index = list(vocabulary.ids.values())[::-1]"),
        Bug("all tokens alike", "numpy", "self._scores = [vocabulary.scores[token] for", "self._scores = [-1.0 for"),
        Bug("of equals the shortest", "torch", "before + score > best[end + 1]", "before + score >= best[end + 1]", function="found"),
        Bug("only the last token counts", "torch", "before, node = best[start], top", "before, node = 0.0, top", function="found"),
        Bug("the walk ends at the first token", "torch", "best[end + 1], last[end + 1] = before + score, (start, token)", "best[end + 1], last[end + 1] = before + score, (start, token); break", function="found", needs=("learnt",)),
        Bug("ids from the end to the beginning", "torch", "return ids[::-1]", "return ids", function="found"),
    ),
)  # fmt: skip


def draw_sampling(source):
    case = draw_encoding(source)
    alpha = source.choice(0.0, 0.2, 1.0, 1.0, 5.0, -1.0)
    source.event(f"alpha {alpha:g}")
    return source.case({}, **case.static, alpha=alpha, seed=source.integer(0, 99))


def sampled(tokenizer, arguments):
    arguments = dict(arguments)
    return or_refusal(tokenizer(arguments.pop("vocabulary")).sample, arguments)


SAMPLE = Component(
    name="unigram sample",
    numpy=numpy_unigram.Unigram,
    torch=torch_unigram.Unigram,
    draw=draw_sampling,
    call=sampled,
    exact=True,
    dtypes=("float64",),
    events=(*KINDS, *ENCODING_EVENTS, "alpha 0", "alpha 0.2", "alpha 1", "alpha 5", "alpha -1"),
    weight=2,
    compiles=False,
    bugs=(
        Bug("alpha forgotten", "numpy", "alpha * np.array(self._scores)", "np.array(self._scores)", function="sample"),
        Bug("one draw for all words", "numpy", "(len(word),), place)", "(len(word),), 0)", function="sample"),
        Bug("special tokens take no place", "numpy", "place += len(part.encode())", "place += 0", function="sample", needs=("asked for and there", "learnt", "alpha 1")),
        Bug("places in characters", "numpy", "place += len(word)", "place += len(piece)", function="sample"),
        Bug("a negative power", "numpy", "not 0 <= alpha < math.inf", "not alpha < math.inf", function="sample", needs=("alpha -1",)),
        Bug("shorter tokens first", "torch", "ending[end + 1].append((start, *node[None]))", "ending[end + 1].insert(0, (start, *node[None]))", function="drawn"),
        Bug("the draw of the byte before", "torch", "draws[place - 1]", "draws[place - 2]", function="drawn"),
        Bug("only the last token counts", "torch", "total[start] + alpha * score", "alpha * score", function="drawn"),
        Bug("shares not added up", "torch", "list(accumulate(shares))", "sorted(shares)", function="drawn"),
    ),
)  # fmt: skip

COMPONENTS = (TRAIN, ENCODE, SAMPLE)
