"""Unigram, WordPiece and BoundlessBPE beyond the agreement of both sides: what their definitions promise, counted by hand
or by brute force; files; commands."""

import itertools
import json
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torch_impl.tokenizers.boundless as torch_boundless
import torch_impl.tokenizers.bpe as torch_bpe
from numpy_ref.errors import UserError
from numpy_ref.tokenizers import kinds, tokenizer_file
from numpy_ref.tokenizers.bpe import merged
from numpy_ref.tokenizers.pretokenize import PATTERNS, chunks, has_letter, split
from numpy_ref.tokenizers.segmentation import _digamma, best, drawn
from parity_tests.components import boundless, bpe, unigram, wordpiece
from parity_tests.texts import MARKER, PIECES, texts
from parity_tests.trained import run, wing  # noqa: F401  (fixture)
from parity_tests.wings import WINGS
from torch_impl.tokenizers.bpe import count_pieces, join_pairs, merges_of
from torch_impl.tokenizers.segmentation import Lattice

VOCABULARIES = {"bpe": bpe, "unigram": unigram, "wordpiece": wordpiece, "boundless": boundless}
CLASSES = {"unigram": "Unigram", "wordpiece": "WordPiece", "boundless": "BoundlessBPE"}
both = pytest.mark.parametrize("wing", WINGS, ids=str)
every = pytest.mark.parametrize("kind", CLASSES)


def known(kind, name="learnt", pattern="gpt4"):
    return VOCABULARIES[kind].vocabulary(name, pattern)


def tokenizer(wing, kind, vocabulary):
    return getattr(wing.module(f"tokenizers.{kind}"), CLASSES[kind])(vocabulary)


# -- all of them --------------------------------------------------------------------------------------------------


@every
@both
@given(text=texts())
def test_no_text_is_lost(wing, kind, text):
    made = tokenizer(wing, kind, known(kind))
    ids = made.encode(text)
    assert made.decode(ids) == text and not set(ids.tolist()) & set(made.vocabulary.special.values())
    stream = made.decoder()
    assert "".join(stream.push(i) for i in ids) + stream.finish() == text
    ids = made.encode(text + MARKER, (MARKER,))
    assert ids[-1] == made.vocabulary.special[MARKER] and MARKER not in made.decode(ids[:-1])[len(text) :]


@every
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", ["learnt", "random", "bytes alone"])
def test_what_is_written_is_read(kind, name, pattern, tmp_path):
    vocabulary = known(kind, name, pattern)
    tokenizer_file.write(vocabulary, tmp_path)
    assert tokenizer_file.read(tmp_path) == vocabulary
    for format in ("gpt2", "tiktoken"):
        with pytest.raises(UserError, match="json alone"):
            tokenizer_file.write(vocabulary, tmp_path, format)


def changed(kind, **changes):
    whole = json.loads(tokenizer_file.to_json(known(kind))[0])
    whole["model"] |= changes
    return json.dumps(whole).encode()


def listed(kind, change):
    model = json.loads(tokenizer_file.to_json(known(kind))[0])["model"]
    return changed(kind, vocab=change(model["vocab"]))


BAD = {
    "score that is none": (listed("unigram", lambda vocab: [*vocab[:-1], [vocab[-1][0], None]]), "score None"),
    "infinite score": (listed("unigram", lambda vocab: [*vocab[:-1], [vocab[-1][0], 1e999]]), "finite"),
    "token without a score": (listed("unigram", lambda vocab: [*vocab[:-1], [vocab[-1][0]]]), "not a token and its score"),
    "token twice": (listed("unigram", lambda vocab: [*vocab, vocab[300]]), "listed twice"),
    "byte missing": (listed("unigram", lambda vocab: vocab[1:]), "0x21"),
    "byte fallback": (changed("unigram", byte_fallback=True), "byte_fallback"),
    "vocabulary that is an object": (changed("unigram", vocab={}), "not a JSON list"),
    "another prefix": (changed("wordpiece", continuing_subword_prefix="##"), "only one"),
    "long words unknown": (changed("wordpiece", max_input_chars_per_word=100), "max_input_chars"),
    "continuing byte missing": (
        listed("wordpiece", lambda vocab: {name: i for name, i in vocab.items() if name != kinds.PREFIX + "a"}), "0x61",
    ),
    "supermerge of nothing": (changed("boundless", supermerges=["a \u0120zzz"]), "merge 0"),
    "supermerges that are none": (changed("boundless", supermerges=None), "supermerges"),
    "supermerges left out": (changed("boundless", supermerges=[]), "no merge makes"),
}  # fmt: skip


@pytest.mark.parametrize("content, words", BAD.values(), ids=BAD)
def test_a_wrong_file_is_one_clear_line(content, words):
    with pytest.raises(UserError, match=words) as error:
        tokenizer_file.from_json(content)
    assert "\n" not in str(error.value)


def test_vocabularies_that_cannot_be():
    learnt = known("wordpiece")
    for tokens, continuing in (
        (learnt.tokens, learnt.continuing | {len(learnt)}),
        (learnt.tokens, learnt.continuing | {learnt.special[MARKER]}),
        ((*learnt.tokens, learnt.tokens[max(learnt.continuing)]), learnt.continuing | {len(learnt)}),
    ):
        with pytest.raises(UserError):
            kinds.WordPieceVocabulary(tokens, frozenset(continuing), "gpt4", learnt.special)
    assert learnt.label(learnt.continuing_ids[b"#"]) == "\u2026#" and learnt.label(learnt.ids[b" "]) == "\u0120"


# -- unigram ------------------------------------------------------------------------------------------------------


def segmentations(word, tokens):
    """Every way to write a word, by brute force."""
    if not word:
        yield ()
    for end in range(1, len(word) + 1):
        if word[:end] in tokens:
            for rest in segmentations(word[end:], tokens):
                yield (word[:end], *rest)


@st.composite
def models(draw):
    """(words, tokens, their probabilities), small enough for brute force."""
    words = draw(st.lists(st.text("ab", min_size=1, max_size=6).map(str.encode), min_size=1, max_size=3))
    longer = draw(st.lists(st.sampled_from([w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1)])))
    tokens = list(dict.fromkeys((b"a", b"b", *longer)))
    shares = draw(st.lists(st.floats(0.01, 1.0), min_size=len(tokens), max_size=len(tokens)))
    return words, tokens, np.array(shares) / sum(shares)


@both
@given(model=models())
def test_likelihood_counts_and_best_way_by_brute_force(wing, model):
    words, tokens, shares = model
    weights, index = np.arange(1.0, len(words) + 1), {token: i for i, token in enumerate(tokens)}
    total, counts = 0.0, np.zeros(len(tokens))
    for word, weight in zip(words, weights):
        ways = list(segmentations(word, index))
        likely = np.array([math.prod(shares[index[token]] for token in way) for way in ways])
        total += weight * math.log(likely.sum())
        for way, share in zip(ways, likely / likely.sum()):
            for token in way:
                counts[index[token]] += weight * share
        score, found = best(word, index, np.log(shares).tolist())
        assert score == pytest.approx(math.log(likely.max())) and b"".join(tokens[i] for i in found) == word
    assert wing.call("tokenizers.segmentation", "log_likelihood", words, weights, index, np.log(shares)) == pytest.approx(total)
    _, vjp = WINGS[0].module("tokenizers.segmentation").log_likelihood(words, weights, index, np.log(shares))
    np.testing.assert_allclose(vjp(1.0), counts)


@given(model=models())
def test_expectation_maximisation_never_loses(model):
    """With the plain M step, shares of the expected counts, the likelihood rises in every step."""
    words, tokens, shares = model
    log_likelihood = WINGS[0].module("tokenizers.segmentation").log_likelihood
    weights, index, before = np.ones(len(words)), {token: i for i, token in enumerate(tokens)}, -math.inf
    for _ in range(5):
        with np.errstate(divide="ignore"):
            value, vjp = log_likelihood(words, weights, index, np.log(np.maximum(shares, 1e-300)))
        assert value >= before - 1e-9
        counts, before = vjp(1.0), value
        shares = counts / counts.sum()


@both
def test_samples_are_as_frequent_as_the_model_says(wing):
    """All ways to write one word, drawn 2000 times: shares within four deviations of P^alpha / Z. The draws are numbers of
    a fixed stream, the same every time."""
    word, times = "abab", 2000
    tokens = (*kinds.BYTES, b"ab", b"aba", b"ba")
    scores = dict(zip(tokens, [-6.0] * 256 + [-1.0, -3.0, -2.0])) | {b"a": -1.5, b"b": -2.0}
    made = tokenizer(wing, "unigram", kinds.UnigramVocabulary(tokens, scores, "gpt4"))
    ways = list(segmentations(word.encode(), set(tokens)))
    for alpha in (0.0, 0.5, 1.0):
        likely = np.array([math.exp(alpha * sum(scores[token] for token in way)) for way in ways])
        found = dict.fromkeys(ways, 0)
        drawn = b"|".join(tokens[i] for i in made.sample((word + "\n") * times, alpha, 1)).split(b"|\n|")
        for way in drawn:
            found[tuple(way.removesuffix(b"|\n").split(b"|"))] += 1
        shares = likely / likely.sum()
        deviations = (np.array(list(found.values())) - times * shares) / np.sqrt(times * shares * (1 - shares))
        assert np.abs(deviations).max() < 4, (alpha, deviations)


def test_digamma_is_that_of_torch():
    x = np.exp(np.linspace(-1, 25, 500))
    np.testing.assert_allclose(_digamma(x), torch.digamma(torch.from_numpy(x)).numpy(), rtol=1e-13, atol=1e-15)


# -- WordPiece ----------------------------------------------------------------------------------------------------


@both
def test_wordpiece_by_hand(wing):
    """Pieces "ab" 4 times, "ac" 3, "db" 3, "ef" 3 times, and 12 line ends that stand alone.

    N = 38; c(a) = 7, c(..b) = 7, c(..c) = c(d) = c(e) = c(..f) = 3. Gains: a ..b 4 ln (4 * 38 / 49) = 4.5, a ..c and
    d ..b 3 ln (3 * 38 / 21) = 5.1, e ..f 3 ln (3 * 38 / 9) = 7.6. So "ef" comes first, where frequency would take "ab".
    """
    text = "\n".join(["ab"] * 4 + ["ac"] * 3 + ["db"] * 3 + ["ef"] * 3)
    learnt = wing.module("tokenizers.wordpiece").train([text], 513, "gpt2", (), 1)
    assert learnt.tokens[512] == b"ef" and 512 not in learnt.continuing


@given(text=texts())
def test_wordpiece_takes_the_longest(text):
    vocabulary = known("wordpiece", "random")
    made = tokenizer(WINGS[1], "wordpiece", vocabulary)
    for piece in split(text, "gpt4"):
        rest, ids = piece.encode(), made.encode(piece).tolist()
        for place, i in enumerate(ids):
            among = vocabulary.continuing_ids if place else vocabulary.ids
            assert i == among[vocabulary.tokens[i]]
            assert not any(rest[:size] in among for size in range(len(vocabulary.tokens[i]) + 1, len(rest) + 1))
            rest = rest[len(vocabulary.tokens[i]) :]


# -- BoundlessBPE -------------------------------------------------------------------------------------------------


@both
def test_boundless_by_hand(wing):
    """" of the" ten times, in lines of their own, so that runs are two words long. BPE joins, ten times each, (Ġ o), (Ġ t),
    (h e), then (f of), (t the)... : five merges of count ten, whose words then stand side by side ten times.

    For six places BPE has five merges that occur; the sixth is the superword, since 10 > 0."""
    train = wing.module("tokenizers.boundless").train
    learnt = train([" of the\n"] * 10, 256 + 7, "gpt2", (), 2)
    assert b" of the" in learnt.tokens and len(learnt.supermerges) == 1
    ids = tokenizer(wing, "boundless", learnt).encode(" of the, of the").tolist()
    whole, comma = learnt.ids[b" of the"], learnt.ids[b","]
    assert ids == [whole, comma, whole]


@given(found=st.lists(texts(), max_size=3), size=st.integers(0, 60))
def test_superwords_are_whole_pieces(found, size):
    """Supermerges join nothing but words that are tokens, and never make a text longer than the merges alone."""
    learnt = torch_boundless.train(found + [" of the cat"] * 3, 256 + size, "gpt4", (), 1)
    made, merges = torch_boundless.BoundlessBPE(learnt), len(learnt.merges)
    single = torch_bpe.BPE(kinds.Vocabulary(learnt.tokens[: 256 + merges], learnt.merges, "gpt4"))
    assert isinstance(made._words, torch_bpe.MergeCache)
    for text in found:
        ids, pieces = made.encode(text).tolist(), split(text, "gpt4")
        assert len(ids) <= len(single.encode(text))
        borders = set(itertools.accumulate(len(piece.encode()) for piece in pieces))
        place = 0
        for i in ids:
            if i >= 256 + merges:
                assert {place, place + len(learnt.tokens[i])} <= borders | {0}
                assert has_letter(learnt.tokens[i].decode())
            place += len(learnt.tokens[i])


@pytest.mark.parametrize("name", PATTERNS)
@given(text=texts(20), size=st.integers(1, 40))
def test_lines_are_cut_where_no_run_goes_on(name, text, size):
    found = list(chunks([text], size, lines=True))
    assert "".join(found) == text and [piece for chunk in found for piece in split(chunk, name)] == split(text, name)
    assert all(not has_letter(split(chunk, name)[0]) for chunk in found[1:])


def test_merges_of_bpe_never_grow():
    """What lets merges and supermerges compete without a lock: no merge joins more pairs than one before it."""
    counts = [count for _, count in merges_of(count_pieces([*PIECES.values()] * 2, "gpt4"), 300, 1, None)]
    assert counts == sorted(counts, reverse=True)


# -- the fast sides' tools ----------------------------------------------------------------------------------------


def pair_counts(words, weights):
    counts, places = defaultdict(int), defaultdict(list)
    for index, word in enumerate(words):
        for pair in zip(word, word[1:]):
            counts[pair] += weights[index]
            places[pair].append(index)
    return counts, places


@given(seed=st.integers(0, 2**32 - 1))
def test_counts_that_are_kept_are_those_of_a_recount(seed):
    """``join_pairs``, which BPE, WordPiece and BoundlessBPE train with, merge after merge, against the reference."""
    rng = np.random.default_rng(seed)
    words, weights = [rng.integers(0, 3, rng.integers(1, 12)).tolist() for _ in range(5)], rng.integers(1, 4, 5).tolist()
    counts, places = pair_counts(words, weights)
    for new in range(3, 9):
        pairs = sorted(pair for pair, count in counts.items() if count)
        if not pairs:
            break
        pair = pairs[rng.integers(len(pairs))]
        wanted = [list(merged(tuple(word), pair, new)) for word in words]
        grown = join_pairs(pair, new, words, weights, counts, places)
        recount, _ = pair_counts(wanted, weights)
        assert words == wanted and {p: c for p, c in counts.items() if c} == dict(recount)
        assert {p for p in recount if new in p} <= grown and all(new in p for p in grown)


def test_caches_hold_so_much_and_no_more(monkeypatch):
    monkeypatch.setattr(torch_bpe, "_MOST_CACHED", 3)

    class Bytes(torch_bpe.PieceCache):
        def found(self, word):
            return list(word)

    cache = Bytes(known("bpe"))
    for piece in ("a", "bc", "x" * 100, "d", "e", "bc"):
        assert np.frombuffer(cache[piece], np.uint16).tolist() == list(piece.encode())
        assert len(cache) <= 3 and "x" * 100 not in cache
    assert [len(batch) for batch in torch_bpe.batches(["a" * (1 << 19)] * 5)] == [2, 2, 1]


@given(model=models(), places=st.data())
def test_lattices_of_all_words_and_of_one(model, places):
    """The fast side's best segmentations and one drawn with given numbers: those of the reference."""
    words, tokens, shares = model
    index, scores = {token: i for i, token in enumerate(tokens)}, np.log(shares)
    lattice, found = Lattice(words, index), [[] for _ in words]
    for word, token in lattice.walk(lattice.best(torch.from_numpy(scores), 1e-9)):
        for w, i in zip(word.tolist(), token.tolist()):
            found[lattice.order[w]].insert(0, i)
    assert found == [best(word, index, scores.tolist(), 1e-9)[1] for word in words]
    longest_first = drawn(words[0], index, scores, np.zeros(len(words[0])))
    assert b"".join(tokens[i] for i in longest_first) == words[0]
    assert len(tokens[longest_first[-1]]) == max(len(t) for t in tokens if words[0].endswith(t))


# -- commands -----------------------------------------------------------------------------------------------------


@every
def test_tokenizer_commands(wing, kind, tmp_path, capsys):  # noqa: F811
    text, out, source = "the cat and the hat. " * 40 + "\n".join(PIECES.values()), tmp_path / "t", tmp_path / "text"
    source.mkdir()
    for name in ("a", "b", "c"):
        (source / f"{name}.txt").write_text(f"{name} {text[:900]}\n\nThe {name} of the end, {name} of the day.\n" * 2)
    assert run(wing, "tokenizer", "train", "--kind", kind, "--data", source, "--vocab-size", 560, "--out", out) == 0
    learnt = tokenizer_file.read(out)
    assert learnt.kind == kind and 270 < len(learnt) <= 560
    (tmp_path / "x.txt").write_bytes(text.encode())
    same = ("--tokenizer", out, "--kind", kind)
    assert run(wing, "tokenizer", "encode", *same, "--input", tmp_path / "x.txt", "--out", tmp_path / "ids") == 0
    ids = np.frombuffer((tmp_path / "ids").read_bytes(), "<u2")
    assert ids.tolist() == tokenizer(WINGS[1], kind, learnt).encode(text).tolist()
    capsys.readouterr()
    assert run(wing, "tokenizer", "inspect", *same, "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == kind
    assert run(wing, "tokenizer", "inspect", *same, "--text", " the cat") == 0
    assert "\u0120the" in capsys.readouterr().out
    for arguments, words in {
        ("inspect", "--tokenizer", out, "--kind", "bpe"): f"of the kind {kind}",
        ("convert", "--tokenizer", out, "--format", "gpt2", "--out", tmp_path / "g"): "json alone",
        ("train", "--kind", "sentences", "--data", source, "--vocab-size", 560, "--out", out): "sentences",
        ("train", "--kind", kind, "--data", source, "--vocab-size", 255, "--out", out): "255",
    }.items():
        assert run(wing, "tokenizer", *arguments) == 2, arguments
        assert words in capsys.readouterr().err, arguments


@every
def test_a_run_carries_its_tokenizer(kind, tmp_path, capsys):
    """Train a model with a tokenizer of each kind, and read its samples on the other side."""
    from parity_tests.trained import SMALL

    tokenizer_file.write(known(kind), tmp_path / "t")
    small = [*SMALL, "--steps", 2, "--data", "samples", "--out", tmp_path / "run"]
    assert run(WINGS[1], "train", *small, "--tokenizer", tmp_path / "t") == 0
    assert tokenizer_file.read(tmp_path / "run") == known(kind)
    said = []
    for one in WINGS:
        capsys.readouterr()
        assert run(one, "generate", "--checkpoint", tmp_path / "run", "--prompt", "The", "--greedy", "--tokens", 5) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
