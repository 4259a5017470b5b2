"""Speculative decoding: the text is the model's own, whatever is guessed."""

import itertools

import numpy as np
import pytest

from numpy_ref.config import ModelConfig, SampleConfig
from numpy_ref.errors import UserError
from parity_tests.test_generate import CONFIGS, parameters
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)
DRAFT = ModelConfig(vocab_size=13, context=16, layers=1, width=8, heads=2, feed_forward=8, positions="rope")
PROMPTS = [np.array([1, 2, 3, 1, 2, 3, 1, 2]), np.array([4]), np.arange(15) % 5]


def speculated(wing, config, prompt, sample, draft=None, **options):
    if draft is not None:
        draft = (wing.array(parameters(draft, 1)), draft)
    row = wing.call(
        "inference.speculative", "speculative_generate", parameters(config), config, prompt, sample, draft=draft, **options
    )
    return np.asarray(row).tolist()


def plain(wing, config, prompt, sample, **options):
    rows = wing.call("inference.generate", "generate", parameters(config), config, [prompt], sample, **options)
    return np.asarray(rows[0]).tolist()


@both
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("draft", [None, DRAFT], ids=["lookup", "draft model"])
def test_greedy_text_is_the_same(wing, name, draft):
    """Also with rings that must take tokens back, and beyond the context."""
    sample = SampleConfig(tokens=22, greedy=True)
    for prompt in PROMPTS:
        expected = plain(wing, CONFIGS[name], prompt, sample)
        for ahead in (1, 4):
            assert speculated(wing, CONFIGS[name], prompt, sample, draft, ahead=ahead) == expected


@pytest.mark.parametrize("draft", [None, DRAFT], ids=["lookup", "draft model"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.6, "top_k": 4}, {"top_p": 0.7}], ids=str)
def test_both_sides_say_the_same(draft, options):
    sample = SampleConfig(tokens=18, seed=5, **options)
    one, other = (speculated(wing, CONFIGS["llama"], PROMPTS[0], sample, draft) for wing in WINGS)
    assert one == other and len(one) == 18


@both
def test_a_perfect_draft_is_always_accepted(wing):
    """The model as its own draft: every guess stays, so a round yields ahead + 1 tokens."""
    config, counts = CONFIGS["llama"], {}
    own = (wing.array(parameters(config)), config)
    function = wing.module("inference.speculative").speculative_generate
    function(own[0], config, wing.array(np.array([1])), SampleConfig(tokens=10), draft=own, ahead=4, counts=counts)
    assert counts == {"steps": 2, "proposed": 8, "accepted": 8}


def exact(accept, target, draft):
    """The distribution of the tokens that one round yields, by integrating over the uniforms: {tokens: probability}.

    Refusals are decided by intervals of the uniforms, so a grid that has their ends as its points is exact.
    """
    k, vocabulary = draft.shape
    found = {}
    for guess in itertools.product(range(vocabulary), repeat=k):
        chance = np.prod([draft[i, x] for i, x in enumerate(guess)]) if k else 1.0
        if chance == 0:
            continue
        ends = [sorted({0.0, 1.0, min(1.0, target[i, x] / draft[i, x])}) for i, x in enumerate(guess)]
        for cell in itertools.product(*(list(zip(e, e[1:])) for e in ends)):
            share = np.prod([b - a for a, b in cell]) if k else 1.0
            middle = [(a + b) / 2 for a, b in cell]
            fine = 2000
            for u in (np.arange(fine) + 0.5) / fine:  # the draw of the last token, on a grid
                count, token = accept(target, draft, list(guess), np.array([*middle, u]))
                key = (*guess[:count], token)
                found[key] = found.get(key, 0.0) + chance * share / fine
    return found


def first_tokens(found, vocabulary):
    p = np.zeros(vocabulary)
    for tokens, chance in found.items():
        p[tokens[0]] += chance
    return p


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_the_distribution_is_the_targets(wing):
    """By enumeration on a vocabulary of 3: the first token of a round has the model's distribution, and the second,
    given the first, the next one. The masses are multiples of 1/2000, so that the grid is exact."""
    target = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    draft = np.array([[0.25, 0.7, 0.05]])

    def accept(*arguments):
        return wing.call("inference.speculative", "accept", *arguments[:2], arguments[2], arguments[3])

    if wing.package == "torch_impl":
        target_, draft_ = wing.array(target), wing.array(draft)
        function, torch_array = wing.module("inference.speculative").accept, wing.array

        def accept(target, draft, tokens, uniforms):
            return function(target_, draft_, tokens, torch_array(uniforms))

    else:
        function = wing.module("inference.speculative").accept

        def accept(target, draft, tokens, uniforms):
            return function(target, draft, np.array(tokens), uniforms)

    found = exact(accept, target, draft)
    np.testing.assert_allclose(first_tokens(found, 3), target[0], atol=2e-3)
    seconds = np.zeros((3, 3))
    for tokens, chance in found.items():
        if len(tokens) == 2:
            seconds[tokens] += chance
    kept = seconds.sum(1)
    np.testing.assert_allclose(kept, np.minimum(target[0], draft[0]), atol=1e-12)
    np.testing.assert_allclose(seconds / kept[:, None], np.broadcast_to(target[1], (3, 3)), atol=2e-3)

    def biased(target, draft, tokens, uniforms):  # the negative control: the rest drawn from the target itself
        count, token = accept(target, draft, tokens, uniforms)
        return (count, token) if count == len(tokens) else (count, int(np.searchsorted(target[count].cumsum(), uniforms[-1])))

    wrong = first_tokens(exact(biased, target, draft), 3)
    assert np.max(np.abs(wrong - target[0])) > 0.02


@both
def test_bad_input(wing):
    sample, config = SampleConfig(tokens=2), CONFIGS["llama"]
    other = ModelConfig(vocab_size=14, context=8, layers=1, width=8, heads=2, feed_forward=8)
    with pytest.raises(UserError, match="vocabulary"):
        speculated(wing, config, PROMPTS[0], sample, other)
    with pytest.raises(UserError, match="ahead=0"):
        speculated(wing, config, PROMPTS[0], sample, ahead=0)
    with pytest.raises(UserError, match="prompt"):
        speculated(wing, config, np.array([], np.int64), sample)


@both
def test_stop_tokens(wing):
    config, sample = CONFIGS["llama"], SampleConfig(tokens=20, greedy=True)
    whole = plain(wing, config, PROMPTS[0], sample)
    stop = whole[3]
    assert speculated(wing, config, PROMPTS[0], sample, stop=(stop,)) == whole[: whole.index(stop)]
