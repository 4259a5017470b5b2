"""Declarations of ngram_proposal and accept."""

import numpy as np

import numpy_ref.inference.speculative as numpy_speculative
import torch_impl.inference.speculative as torch_speculative
from parity_tests.harness.declaration import Bug, Component


def draw_proposal(source):
    tokens = source.rng.integers(0, source.choice(2, 3, 8), source.size(33)).tolist()
    static = {"tokens": tokens, "ahead": source.integer(1, 6), "longest": source.integer(1, 4)}
    found = numpy_speculative.ngram_proposal(**static)
    source.event("nothing found", not found)
    source.event("cut at the end", 0 < len(found) < static["ahead"])
    source.event("full", len(found) == static["ahead"])
    return source.case({}, **static)


NGRAM_PROPOSAL = Component(
    name="ngram_proposal",
    numpy=numpy_speculative.ngram_proposal,
    torch=torch_speculative.ngram_proposal,
    draw=draw_proposal,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("nothing found", "cut at the end", "full"),
    bugs=(
        Bug("finds its own end", "numpy", "len(tokens) - size - 1, -1, -1", "len(tokens) - size, -1, -1"),
        Bug("the earliest place", "numpy", "range(len(tokens) - size - 1, -1, -1)", "range(len(tokens) - size)"),
        Bug("the shortest end first", "numpy", "range(min(longest, len(tokens) - 1), 0, -1)", "range(1, min(longest, len(tokens) - 1) + 1)"),
        Bug("repeats the end", "numpy", "return tokens[start + size : start + size + ahead]", "return tokens[start : start + ahead]"),
        Bug("one too few", "torch", "tokens[stop : stop + ahead]", "tokens[stop : stop + ahead - 1]"),
        Bug("never the first place", "torch", "range(last - 1, size - 1, -1)", "range(last - 1, size, -1)"),
    ),
)


def draw_accept(source):
    vocabulary, k = source.size(9, least=2), source.integer(0, 4)

    def distributions(count):
        p = source.rng.dirichlet(np.full(vocabulary, source.choice(1.0, 0.2)), count)
        if source.flag():  # exact zeros, and all on one token
            p = np.where(p == p.max(-1, keepdims=True), 1.0, 0.0)
        return p / p.sum(-1, keepdims=True)

    target, draft = distributions(k + 1), distributions(k)
    if source.choice(False, False, True):
        draft = target[:k].copy()
    tokens = [int(source.rng.choice(vocabulary, p=q)) for q in draft]
    uniforms = source.rng.random(k + 1)
    count, _ = numpy_speculative.accept(target, draft, np.array(tokens, np.int64), uniforms)
    for event, happens in {"none": k == 0, "all kept": 0 < count == k, "refused": count < k}.items():
        source.event(event, happens)
    return source.case({"target": target, "draft": draft, "uniforms": uniforms}, tokens=tokens)


ACCEPT = Component(
    name="accept",
    numpy=numpy_speculative.accept,
    torch=torch_speculative.accept,
    draw=draw_accept,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("none", "all kept", "refused"),
    bugs=(
        Bug("ratio upside down", "numpy", "uniforms[i] * draft[i, token] < target[i, token]", "uniforms[i] * target[i, token] < draft[i, token]"),
        Bug("drawn from the target, not from the rest", "numpy", "np.maximum(target[i] - draft[i], 0.0)", "target[i]"),
        Bug("rest of the other sign", "numpy", "target[i] - draft[i]", "draft[i] - target[i]"),
        Bug("everything kept", "numpy", "if not uniforms", "if False and uniforms"),
        Bug("goes on after a refusal", "torch", "stays.long().cumprod(0).sum()", "stays.long().sum()"),
        Bug("last target for every draw", "torch", "rest = target[count]", "rest = target[-1]"),
        Bug("draw with the first uniform", "torch", "sampling.sample(rest, uniforms[-1])", "sampling.sample(rest, uniforms[0])"),
    ),
)  # fmt: skip

COMPONENTS = (NGRAM_PROPOSAL, ACCEPT)
