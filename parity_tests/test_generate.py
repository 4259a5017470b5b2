"""Generation with the cache says what generation without one would say."""

import numpy as np
import pytest

from numpy_ref.config import ModelConfig, SampleConfig, parameter_shapes
from numpy_ref.errors import UserError
from numpy_ref.inference import sampling
from numpy_ref.model.transformer import transformer
from numpy_ref.rng import STREAM_SAMPLE, uniform
from parity_tests.components.block import random_parameters
from parity_tests.wings import WINGS

SIZE = {"vocab_size": 13, "context": 12, "layers": 2, "width": 16, "heads": 4, "feed_forward": 24}
LLAMA = {"kv_heads": 2, "positions": "rope", "norm": "rms", "activation": "swiglu", "feed_forward_bias": False}
CONFIGS = {
    "gpt": ModelConfig(**SIZE, positions="learned"),
    "llama": ModelConfig(**SIZE, **LLAMA),
    "alternating": ModelConfig(**SIZE, **LLAMA, window=3, full_attention_every=2, qk_norm=True),
    "alibi": ModelConfig(**SIZE, positions="alibi", attention_softcap=4.0),
    "endless": ModelConfig(**SIZE, **LLAMA, window=4),
    "hyperbolic": ModelConfig(**SIZE, **LLAMA, attention_curvature=0.5, embedding_curvature=2.0),
    "endless with sinks": ModelConfig(**SIZE, **LLAMA, window=4, sinks=2),
}
PROMPTS = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6, 7, 8, 9, 10, 11, 12, 0, 1, 2, 3, 4, 5])]
configs = pytest.mark.parametrize("name", CONFIGS)
both = pytest.mark.parametrize("wing", WINGS, ids=str)


def parameters(config, seed=0):
    return random_parameters(np.random.default_rng(seed), parameter_shapes(config))


def said(wing, config, prompts, sample, **options):
    rows = wing.call("inference.generate", "generate", parameters(config), config, prompts, sample, **options)
    return [np.asarray(row).tolist() for row in rows]


def without_cache(config, prompt, sample, stream=STREAM_SAMPLE):
    """The rule in its plainest form: the whole window through the whole model at every step."""
    window = prompt.tolist() if config.endless else prompt[-config.context :].tolist()
    new, params = [], parameters(config)
    for step in range(sample.tokens):
        if len(window) > config.context and not config.endless:
            window = window[-max(1, config.context // 2) :]
        logits = transformer(np.array([window]), params, config)[0][0, -1]
        if sample.greedy:
            token = int(sampling.greedy(logits))
        else:
            p = sampling.probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p)
            token = int(sampling.sample(p, uniform(sample.seed, stream, (1,), offset=step)[0]))
        new.append(token)
        window.append(token)
    return new


@both
@configs
@pytest.mark.parametrize("chunk", [512, 4])
def test_the_cache_changes_nothing(wing, name, chunk):
    """Prompts shorter and longer than the context, and texts that outgrow it twice."""
    sample = SampleConfig(tokens=25, temperature=0.9, seed=5)
    found = said(wing, CONFIGS[name], PROMPTS, sample, chunk=chunk)
    for row, prompt in enumerate(PROMPTS):
        assert found[row] == without_cache(CONFIGS[name], prompt, sample, STREAM_SAMPLE + row)


@both
@configs
def test_greedy_texts_too(wing, name):
    sample = SampleConfig(tokens=20, greedy=True)
    expected = [without_cache(CONFIGS[name], prompt, sample) for prompt in PROMPTS]
    assert said(wing, CONFIGS[name], PROMPTS, sample) == expected


@both
def test_every_row_may_have_options_of_its_own(wing):
    """A row with its own options is the text that it would be alone; rows end at their own lengths."""
    config = CONFIGS["llama"]
    samples = [SampleConfig(tokens=9, seed=3), SampleConfig(tokens=17, greedy=True), SampleConfig(tokens=3, top_k=2, seed=8)]
    together = said(wing, config, PROMPTS, samples)
    assert [len(row) for row in together] == [9, 17, 3]
    for row, prompt, sample in zip(together, PROMPTS, samples):
        assert said(wing, config, [prompt], [sample]) == [row]
    turned = said(wing, config, PROMPTS[::-1], samples[::-1])
    assert turned == together[::-1]


@both
def test_options_for_another_number_of_rows_are_refused(wing):
    with pytest.raises(UserError, match="2 sampling options|3 prompts"):
        said(wing, CONFIGS["llama"], PROMPTS, [SampleConfig(tokens=2)] * 2)


@both
def test_sample_of_each_row(wing):
    one, many = SampleConfig(seed=1), [SampleConfig(seed=2), SampleConfig(seed=3)]
    function = wing.module("inference.generate").sample_of_each_row
    assert function(one, 2) == [(one, STREAM_SAMPLE), (one, STREAM_SAMPLE + 1)]
    assert function(many, 2) == [(many[0], STREAM_SAMPLE), (many[1], STREAM_SAMPLE)]


@both
def test_no_prompts_no_texts(wing):
    assert said(wing, CONFIGS["llama"], [], SampleConfig(tokens=3)) == []


@configs
def test_a_recorded_step_says_the_same(name, monkeypatch):
    """What surrounds a CUDA graph, with a recorder that replays by calling again: its own inputs, new buffers, rows that leave."""
    from torch_impl.inference import decode, generate, graph

    def again(step):
        result = step().clone()  # a graph has one result tensor, which every replay overwrites
        return lambda: result.copy_(step())

    made = []

    def make(params, config, rows):
        decoder = decode.Decoder(params, config, rows)
        made.append(decoder if decoder.plain else graph.GraphDecoder(decoder))
        return made[-1]

    config, wing = CONFIGS[name], WINGS[1]
    sample = [SampleConfig(tokens=n, seed=n, temperature=0.7) for n in (4, 25, 9)]
    expected = said(wing, config, PROMPTS, sample)
    monkeypatch.setattr(graph, "recorded", again)
    monkeypatch.setattr(generate, "make_decoder", make)
    assert said(wing, config, PROMPTS, sample) == expected
    assert name in ("alibi", "hyperbolic") or made[0].buffers is not None
