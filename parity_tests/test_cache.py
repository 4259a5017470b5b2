"""What a cache must never change: cached decoding is the full forward pass, however the text comes in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.config import ModelConfig, parameter_shapes
from numpy_ref.errors import UserError
from parity_tests.components.block import draw_config, random_parameters
from parity_tests.harness.strategies import Source, Uniform
from parity_tests.wings import WINGS

LONGEST = 18


def drawn(seed, **fixed):
    """(config, params, generator) of any kind of model: every option of ``ModelConfig`` may be on."""
    source = Source(Uniform(np.random.default_rng(seed)))
    positions = source.choice("rope", "alibi", "none", "learned", "sinusoidal")
    size = {"vocab_size": 11, "context": 32, "layers": source.integer(1, 3), "dropout": 0.0}
    caps = {"logit_softcap": source.choice(0.0, 3.0), "tie_embeddings": source.flag()}
    config = draw_config(source, **{"positions": positions} | size | caps | fixed)
    return config, random_parameters(source.rng, parameter_shapes(config)), source.rng


def init(wing, config, rows, capacity, slack=0):
    return wing.module("model.kv_cache").init_cache(config, rows, capacity, wing.float64, slack)


def advance(wing, tokens, params, config, cache, counts=None, last=False):
    """(logits as an array, the wing's cache)."""
    function = wing.module("inference.cached").cached_transformer
    logits, cache = function(wing.array(tokens), params, config, cache, wing.array(counts), last)
    return np.asarray(logits), cache


def full(wing, tokens, params, config):
    return wing.call("model.transformer", "transformer", tokens, params, config)


@pytest.mark.parametrize("wing", WINGS, ids=str)
@given(seed=st.integers(0, 2**32), chunk=st.sampled_from((1, 2, 3, 7, LONGEST)))
def test_cached_decoding_is_the_full_forward_pass(wing, seed, chunk):
    """Over every option, prompt length and chunking, with rows that advance at their own pace."""
    config, params, rng = drawn(seed)
    rows = int(rng.integers(1, 4))
    tokens = rng.integers(0, config.vocab_size, (rows, LONGEST))
    expected, weights = full(wing, tokens, params, config), wing.array(params)
    cache, done = init(wing, config, rows, LONGEST), np.zeros(rows, np.int64)
    while (done < LONGEST).any():
        counts = np.minimum(rng.integers(0, chunk + 1, rows), LONGEST - done)
        new = np.zeros((rows, max(counts.max(), 1)), np.int64)
        for row in range(rows):
            new[row, : counts[row]] = tokens[row, done[row] : done[row] + counts[row]]
        logits, cache = advance(wing, new, weights, config, cache, counts)
        for row in range(rows):
            difference = logits[row, : counts[row]] - expected[row, done[row] : done[row] + counts[row]]
            assert np.max(np.abs(difference), initial=0) < 1e-12
        done += counts


@pytest.mark.parametrize("wing", WINGS, ids=str)
@given(seed=st.integers(0, 2**32))
def test_what_was_taken_back_never_was(wing, seed):
    """Go ahead by up to ``slack`` tokens, take them back, go on with others: the same as never having gone ahead."""
    config, params, rng = drawn(seed)
    slack, start = int(rng.integers(1, 4)), int(rng.integers(1, 12))
    tokens, wrong = rng.integers(0, config.vocab_size, (2, 2, LONGEST))
    expected, weights = full(wing, tokens, params, config), wing.array(params)
    _, cache = advance(wing, tokens[:, :start], weights, config, init(wing, config, 2, LONGEST, slack))
    _, cache = advance(wing, wrong[:, :slack], weights, config, cache)
    cache = wing.module("model.kv_cache").rewind(cache, wing.array(np.full(2, start)))
    logits, _ = advance(wing, tokens[:, start:], weights, config, cache)
    assert np.max(np.abs(logits - expected[:, start:])) < 1e-12


@pytest.mark.parametrize("wing", WINGS, ids=str)
@given(seed=st.integers(0, 2**32))
def test_a_ring_is_a_full_cache_with_a_window(wing, seed):
    """A ring of W slots gives what a cache of everything gives whose mask hides all but the window."""
    config, params, rng = drawn(seed, window=3, positions="rope")
    tokens, weights = rng.integers(0, config.vocab_size, (2, LONGEST)), wing.array(params)
    ring, whole = init(wing, config, 2, LONGEST), init(wing, config, 2, LONGEST, slack=LONGEST)
    for place in range(LONGEST):
        one, ring = advance(wing, tokens[:, place : place + 1], weights, config, ring)
        other, whole = advance(wing, tokens[:, place : place + 1], weights, config, whole)
        assert np.max(np.abs(one - other)) < 1e-12


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_a_ring_never_grows(wing):
    """Five contexts of text through an endless model: the buffers keep their shapes, and the window is all that counts."""
    config, params, rng = drawn(3, window=4, full_attention_every=0, sinks=0, positions="rope", layers=1)
    assert config.endless
    tokens, weights = rng.integers(0, config.vocab_size, (1, 5 * config.context)), wing.array(params)
    cache = init(wing, config, 1, 10**9)  # capacity is no size: only layers without a window need it
    shapes = [tuple(layer["key"].shape) for layer in cache["layers"]]
    assert shapes[0][2] == 4
    for start in range(0, tokens.shape[1], 16):
        logits, cache = advance(wing, tokens[:, start : start + 16], weights, config, cache, last=True)
    assert [tuple(layer["key"].shape) for layer in cache["layers"]] == shapes
    expected = full(wing, tokens, params, config)
    assert np.max(np.abs(logits - expected[:, -1])) < 1e-12


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_a_row_is_what_it_would_be_alone(wing):
    config, params, rng = drawn(8)
    tokens, weights = rng.integers(0, config.vocab_size, (3, 9)), wing.array(params)
    together, _ = advance(wing, tokens, weights, config, init(wing, config, 3, 9))
    for row in range(3):
        alone, _ = advance(wing, tokens[row : row + 1], weights, config, init(wing, config, 1, 9))
        assert np.max(np.abs(together[row] - alone[0])) < 1e-12


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_a_text_beyond_the_cache_is_refused(wing):
    config, params, rng = drawn(4, window=0, positions="rope")
    tokens = rng.integers(0, config.vocab_size, (1, 40))
    with pytest.raises(UserError, match="9 tokens do not fit the cache of 8"):
        advance(wing, tokens[:, :9], wing.array(params), config, init(wing, config, 1, 8))
    with pytest.raises(UserError, match="40 tokens .* context of 32"):
        advance(wing, tokens, wing.array(params), config, init(wing, config, 1, 64))


@pytest.mark.parametrize("wing", WINGS, ids=str)
@given(seed=st.integers(0, 2**32))
def test_empty_slots_leak_nothing(wing, seed):
    """A new cache holds zeros, never uninitialised memory (0 * NaN is NaN), and no number in an empty slot reaches anyone."""
    config, params, rng = drawn(seed)
    tokens, weights = rng.integers(0, config.vocab_size, (2, LONGEST)), wing.array(params)
    expected, cache = full(wing, tokens, params, config), init(wing, config, 2, LONGEST, slack=2)
    for layer in cache["layers"]:
        for name in ("key", "value"):
            assert not np.asarray(layer[name]).any()
            layer[name] = layer[name] + 1e30
    for start in range(0, LONGEST, 6):
        logits, cache = advance(wing, tokens[:, start : start + 6], weights, config, cache)
        assert np.max(np.abs(logits - expected[:, start : start + 6])) < 1e-12


@pytest.mark.parametrize("wing", WINGS, ids=str)
@given(seed=st.integers(0, 2**32))
def test_packed_texts_are_the_texts_alone(wing, seed):
    """Logits of texts that share a row, over every option; ids come back, and padding stands anywhere between them."""
    config, params, rng = drawn(seed)
    lengths = rng.integers(1, 6, 5)
    ids = rng.permutation([0, 1, 1, -1, 0])  # neighbours with equal ids are one text
    documents = np.repeat(ids, lengths)[None]
    tokens = rng.integers(0, config.vocab_size, documents.shape)
    packed = wing.call("model.transformer", "transformer", tokens, params, config, None, None, documents)
    borders = np.flatnonzero(np.diff(documents[0])) + 1
    for text, part, own in zip(*(np.split(x, borders) for x in (tokens[0], packed[0], documents[0])), strict=True):
        if own[0] >= 0:
            assert np.max(np.abs(part - full(wing, text[None], params, config)[0])) < 1e-12


def test_project_embed_and_head_agree():
    """The parts that cached and full forward share: queries, keys and values, the embedding, the head."""
    config = ModelConfig(
        vocab_size=7, context=8, layers=1, width=12, heads=4, kv_heads=2, head_width=6, feed_forward=5, qk_norm=True,
        positions="rope", norm="rms", logit_softcap=2.0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = random_parameters(rng, parameter_shapes(config))
    tokens, positions = rng.integers(0, 7, (2, 5)), np.arange(5)[None]
    phases = WINGS[0].call("model.positions", "rope_phases", positions, config, np.float64)
    x = rng.standard_normal((2, 5, 12))
    own = {name.removeprefix("blocks.0.attention."): p for name, p in params.items() if ".attention." in name}
    for module, name, arguments in (
        ("model.multi_head_attention", "project", (x, own, config, phases)),
        ("model.transformer", "embed", (tokens, positions, params, config)),
        ("model.transformer", "head", (x, params, config)),
    ):
        one, other = (wing.call(module, name, *arguments) for wing in WINGS)
        parts = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
        assert all(np.max(np.abs(a - b)) < 1e-13 for a, b in parts), name
