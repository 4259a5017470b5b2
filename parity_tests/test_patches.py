"""Patches beyond the agreement of both sides: no border tells of the byte to be predicted, and hashes against whole numbers."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.presets import preset
from parity_tests.texts import texts
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)
CONFIG = replace(preset("tiny")[0], context=100)


@cache
def weights(wing):
    return wing.module("model.initialise").initialise(CONFIG, 0, wing.float64)


def of_model(wing, tokens, threshold, monotonic):
    """Borders by the entropy of a real model: a transformer with random weights, made large so that it is sure at times."""
    params = {name: 30 * value if name == "output.weight" else value for name, value in weights(wing).items()}
    logits = wing.call("model.transformer", "transformer", tokens, params, CONFIG)
    entropies = wing.call("tokenizers.patches", "next_byte_entropies", logits)
    return wing.call("tokenizers.patches", "entropy_starts", entropies, threshold, monotonic)


def patchers(wing):
    def of(name, **arguments):
        return lambda tokens: wing.call("tokenizers.patches", name, tokens, **arguments)

    found = {
        "static": of("static_starts", size=4),
        "space": of("space_starts"),
        "entropy": partial(of_model, wing, threshold=3.0, monotonic=False),
        "rise of the entropy": partial(of_model, wing, threshold=0.2, monotonic=True),
    }
    return found | {
        f"{name}, limited": lambda tokens, f=f: wing.call("tokenizers.patches", "limited", f(tokens), longest=5)
        for name, f in found.items()
    }


def tokens_of(text):
    data = np.frombuffer(text.encode()[:100] or b"a", np.uint8)
    return data[None].astype(np.int64)


def keeps_its_prefix(patcher, tokens, lengths):
    """patcher(x[:n]) is the beginning of patcher(x), the answer about byte n included."""
    whole = patcher(tokens)
    return all(np.array_equal(patcher(tokens[:, :n]), whole[:, : n + 1]) for n in lengths)


@both
@pytest.mark.parametrize("name", patchers(WINGS[0]))
@given(text=texts(), seed=st.integers(0, 2**32 - 1))
def test_borders_never_depend_on_the_byte_to_be_predicted(wing, name, text, seed):
    """Prefixes keep their borders, and whatever follows byte t, the border before it stays what it was."""
    patcher, tokens, rng = patchers(wing)[name], tokens_of(text), np.random.default_rng(seed)
    lengths = rng.integers(1, tokens.shape[1] + 1, 3)
    assert keeps_its_prefix(patcher, tokens, lengths)
    for t in lengths:
        other = tokens.copy()
        other[:, t:] = rng.integers(0, 256, other[:, t:].shape)
        assert np.array_equal(patcher(other)[:, : t + 1], patcher(tokens)[:, : t + 1])


def test_a_border_that_tells_is_noticed():
    """Space patching that begins at the word's first letter, as is easily written: the border before a byte says whether
    that byte is a letter."""

    def leaky(tokens):
        letter = (tokens | 32 >= 97) & (tokens | 32 <= 122)
        starts = np.ones((1, tokens.shape[1] + 1), bool)
        starts[:, 2:-1] = letter[:, 2:] & ~letter[:, 1:-1]
        return starts

    assert not keeps_its_prefix(leaky, tokens_of("the cat and the hat"), range(1, 19))


@both
def test_where_a_text_is_cut(wing):
    """By hand: behind the first space of several, not inside numbers or characters."""
    text = "the cat  sat, 3.5 \u00e9t\u00e9"
    tokens = tokens_of(text)
    places = np.flatnonzero(wing.call("tokenizers.patches", "space_starts", tokens)[0])
    data = text.encode()
    found = [data[a:b] for a, b in zip(places, [*places[1:], len(data)])]
    assert found == [b"t", b"he ", b"cat ", b" sat,", b" 3.", b"5 ", "\u00e9t".encode() + b"\xc3", b"\xa9"]


@both
@given(text=texts(), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_complete_patches_hold_no_byte_of_the_future(wing, text, share, seed):
    """At byte t, the last complete patch and all before it end at t or earlier, and the next one does not."""
    size = tokens_of(text).shape[1]
    starts = np.random.default_rng(seed).random((1, size + 1)) < share
    starts[:, :2] = True
    ids = wing.call("tokenizers.patches", "patch_ids", starts)[0]
    complete = wing.call("tokenizers.patches", "complete_ids", starts)[0]
    ends = {i: np.flatnonzero(ids == i)[-1] for i in range(ids[-1] + 1)}  # the last patch may go on: its end is not known
    for t in range(size):
        assert complete[t] >= 0 and ends[complete[t]] <= t
        going_on = complete[t] + 1
        assert going_on not in ends or ends[going_on] > t or (going_on == ids[-1] and not starts[0, -1])


@both
def test_hashes_against_whole_numbers(wing):
    """Numbers without a size, cut to 64 bits at the end; and few n-grams share a row."""
    module = wing.module("model.hash_ngrams")
    tokens = np.random.default_rng(0).integers(0, 256, (2, 200))
    for size in (1, 3, 8):
        found = wing.call("model.hash_ngrams", "ngram_hashes", tokens, size, 1000)
        for row, col in ((0, 0), (0, 1), (1, 7), (1, 199)):
            gram = [int(tokens[row, col - i]) + 1 for i in range(min(size, col + 1))]
            total = sum(value * module.BASE**i for i, value in enumerate(gram)) % 2**64
            assert found[row, col] == (total * module.MIX % 2**64 >> 33) % 1000
    trigrams = np.stack(np.meshgrid(*[np.arange(97, 123)] * 3), -1).reshape(1, -1)  # 17,576 of letters, in 2^16 rows
    rows = wing.call("model.hash_ngrams", "ngram_hashes", trigrams, 3, 2**16)[0, 2::3]
    assert len(np.unique(rows)) > 0.99 * 2**16 * (1 - np.exp(-len(rows) / 2**16))  # as many as at random
