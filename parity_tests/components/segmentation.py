"""Declarations of the unigram model's likelihood, whose gradient is the E step, and of its M step."""

import numpy as np

import numpy_ref.tokenizers.segmentation as numpy_segmentation
import torch_impl.tokenizers.segmentation as torch_segmentation
from parity_tests.harness.declaration import Bug, Component


def draw_words(source):
    """Words over few letters, so that tokens overlap, and tokens of their substrings; every letter is one."""
    letters = np.frombuffer(source.choice(b"a", b"ab", b"ab\0\xff"), np.uint8)
    words = [bytes(source.rng.choice(letters, source.choice(0, 1, 2, 3, 5, 5, 9))) for _ in range(source.integer(1, 5))]
    known = {bytes([byte]) for byte in letters}
    for word in words:
        for _ in range(source.integer(0, 4)):
            start = int(source.rng.integers(0, len(word) + 1))
            known.add(word[start : start + int(source.rng.integers(1, 5))])
    known = sorted(known - {b""}, key=lambda token: source.rng.random())
    sizes = [len(word) for word in words]
    source.event("empty word", 0 in sizes)
    source.event("one length twice", len(set(sizes)) < len(sizes))
    source.event("a token is a word", bool(set(words) & set(known)))
    source.event("no tokens but letters", max(map(len, known)) == 1)
    source.event("a token that no word has", any(all(token not in word for word in words) for token in known))
    source.event("overlaps", any(word.count(b"aa") for word in words) and b"aa" in known)
    zeros = [token[:-1] for token in known if len(token) > 1 and token.endswith(b"\0")]
    source.event("a zero behind a word", any(word.endswith(token) for word in words for token in zeros))
    arrays = {
        "weights": source.rng.integers(1, 9, len(words)) * source.choice(1.0, 1.0, 0.5, 1e3),
        "scores": source.array("scores", (len(known),), ("one", "sixteen", "small", "ties")) - source.choice(0.0, 3.0),
    }
    return source.case(arrays, words=words, tokens={token: i for i, token in enumerate(known)})


def in_order(function, arguments):
    return function(**{name: arguments[name] for name in ("words", "weights", "tokens", "scores")})


LOG_LIKELIHOOD = Component(
    name="log_likelihood",
    numpy=numpy_segmentation.log_likelihood,
    torch=torch_segmentation.log_likelihood,
    draw=draw_words,
    call=in_order,
    differentiable=("scores",),
    dtypes=("float64", "float32"),
    events=(
        "empty word", "one length twice", "a token is a word", "no tokens but letters", "a token that no word has",
        "overlaps", "a zero behind a word",
    ),
    weight=2,
    compiles=False,
    bugs=(
        Bug("weights forgotten in the counts", "numpy", "np.exp(exponent) * weight * dy", "np.exp(exponent) * dy"),
        Bug("weights forgotten in the sum", "numpy", "forward[:, -1:] * weights[rows, None]", "forward[:, -1:]"),
        Bug("the likeliest way for the sum of all", "numpy", "sums.append(peak + np.log(np.sum(np.exp(terms - peak), axis=1, keepdims=True)))", "sums.append(peak + 0 * terms[:, :1])", function="_sums"),
        Bug("the backward pass is not mirrored", "numpy", "_sums(_mirrored(ids), extended)[:, ::-1]", "_sums(ids, extended)[:, ::-1]"),
        Bug("posterior without the part behind", "numpy", "+ back[:, length:]", "+ 0 * back[:, length:]"),
        Bug("posterior not normalised", "numpy", " - forward[:, -1:]\n", "\n"),
        Bug("a token counted once", "numpy", "np.add.at(dscores, token, np.exp(exponent) * weight * dy)", "dscores[token] += np.exp(exponent) * weight * dy"),
        Bug("ends one byte early", "numpy", "range(1, min(end, longest) + 1)", "range(1, min(end, longest))", function="_endings", needs=("a token is a word",)),
        Bug("cotangent forgotten", "torch", "forward) * dy, None, None", "forward), None, None", function="backward"),
        Bug("words in their old order", "torch", "weights[lattice.order]", "weights", function="forward"),
        Bug("counts weighted in the old order", "torch", "weights[self.order][self.word]", "weights[self.word]", function="expected_counts"),
        Bug("as many words as reach the byte before", "torch", "rows = (self.ends if backwards else self.starts)[: self.reach[step]]", "rows = (self.ends if backwards else self.starts)[: max(1, self.reach[step] - 1)]", function="totals"),
        Bug("the part before forgotten", "torch", "return total[other.clamp(min=0)] + scores", "return 0 * total[other.clamp(min=0)] + scores", function="_terms"),
        Bug("tokens end at the next word's beginning", "torch", "inside = left[at] >= length", "inside = left[at] >= length - 1", function="_matches", needs=("a zero behind a word",)),
        Bug("shorter tokens hide in longer ones", "torch", "whole = reach[sizes[reach] == length]", "whole = reach[sizes[reach] == longest]", function="_trie"),
    ),
)  # fmt: skip


def draw_counts(source):
    size = source.size(33)
    counts = np.exp(source.rng.uniform(-0.7, source.choice(1.0, 9.0, 20.0), size))
    source.event("one", size == 1)
    source.event("large", bool((counts > 1e5).any()))
    source.event("about the root", bool((np.abs(counts - 1.46) < 0.2).any()))
    return source.case({"counts": counts})


MAXIMISE = Component(
    name="maximise",
    numpy=numpy_segmentation.maximise,
    torch=torch_segmentation.maximise,
    draw=draw_counts,
    dtypes=("float64", "float32"),
    events=("one", "large", "about the root"),
    compiles=False,
    bugs=(
        Bug("plain shares", "numpy", "_digamma(counts) - _digamma(np.sum(counts, keepdims=True))", "np.log(counts) - np.log(np.sum(counts, keepdims=True))"),
        Bug("the sum of the digammas", "numpy", "_digamma(np.sum(counts, keepdims=True))", "np.sum(_digamma(counts), keepdims=True)"),
        Bug("no recurrence", "numpy", "range(10)", "range(0)", function="_digamma"),
        Bug("half a term too much", "numpy", "- 0.5 / x", "- 1.0 / x", function="_digamma"),
        Bug("a wrong Bernoulli number", "numpy", "1 / 120", "1 / 12", function="_digamma", dtype="float64"),
        Bug("plain shares again", "torch", "torch.digamma(counts) - torch.digamma(counts.sum())", "counts.log() - counts.sum().log()"),
        Bug("of the mean", "torch", "counts.sum()", "counts.mean()"),
    ),
)  # fmt: skip

COMPONENTS = (LOG_LIKELIHOOD, MAXIMISE)
