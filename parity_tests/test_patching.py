"""Byte models beyond the agreement of both sides: no future, straight-through steps, training, counted operations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from numpy_ref.config import TrainConfig
from numpy_ref.errors import UserError
from numpy_ref.patching.config import KINDS, PatchConfig, flops_per_byte, parameter_count, parameter_shapes
from parity_tests.components.block import random_parameters
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)
every = pytest.mark.parametrize("kind", KINDS)
TEXT = np.frombuffer(b"the cat sat on the mat and the hat, 3 times in a row; so it goes on.", np.uint8)[None].astype(np.int64)


def small(kind, **more):
    options = {"context": 80, "width": 8, "heads": 2, "global_width": 16, "global_heads": 2, "global_layers": 1}
    return PatchConfig(kind=kind, **options | {"decoder_layers": 1, "ngrams": "3", "buckets": 64} | more)


def borders(wing, kind, tokens):
    return wing.call("tokenizers.patches", "space_starts", tokens) if kind == "blt" else None


def random_params(config, seed=0):
    return random_parameters(np.random.default_rng(seed), parameter_shapes(config))


def logits_of(wing, kind, tokens, params, config):
    """Borders are those that the patcher finds in these very tokens."""
    return predicted(wing, kind, tokens, params, config)[0]


def predicted(wing, kind, tokens, params, config):
    """(logits, where patches begin) of these tokens."""
    logits, _, patches = wing.call("patching.model", "byte_model", tokens, params, config, borders(wing, kind, tokens))
    return logits, patches


# -- no future ----------------------------------------------------------------------------------------------------


@both
@every
@given(seed=st.integers(0, 2**32 - 1))
def test_no_prediction_depends_on_what_follows(wing, kind, seed):
    """Logits and borders up to t are those of the text that ends there, and other bytes behind t change nothing."""
    rng = np.random.default_rng(seed)
    config = small(kind, window=int(rng.integers(0, 3)), patch=4)
    params, size = random_params(config, seed), int(rng.integers(2, 40))
    tokens = TEXT[:, :size] if rng.integers(2) else rng.integers(0, 256, (1, size))
    whole, cut = predicted(wing, kind, tokens, params, config)
    t = int(rng.integers(1, size))
    other = tokens.copy()
    other[:, t:] = rng.integers(0, 256, other[:, t:].shape)
    for text in (tokens[:, :t], other):
        logits, patches = predicted(wing, kind, text, params, config)
        np.testing.assert_allclose(logits[:, :t], whole[:, :t], rtol=1e-9, atol=1e-9)
        assert np.array_equal(patches[:, :t], cut[:, :t])


@both
@every
def test_what_came_before_does_matter(wing, kind):
    """The other way round: bytes long ago, beyond the local window and in other patches, are heard of."""
    config = small(kind, window=2)
    params = random_params(config)
    other = TEXT.copy()
    other[:, 1] = ord("z")
    before, after = (logits_of(wing, kind, tokens, params, config)[:, 40] for tokens in (TEXT, other))
    assert np.abs(before - after).max() > 1e-9 or kind == "bytes"  # one block with a window of two looks one byte back


@both
def test_the_bytes_of_hnet_are_as_loud_as_its_chunks(wing):
    """Each network of H-Net ends in a norm (section 2.3.1 of the paper): with all that writes into the encoder's residual
    stream a hundred times as large, the encoder says the same."""
    config = small("hnet")
    params, loud = (random_params(config) for _ in range(2))
    writers = ("byte_embedding.", "ngrams.", "encoder.blocks.0.attention.output.", "encoder.blocks.0.feed_forward.down.")
    for name in params:
        if name.startswith(writers):
            params[name], loud[name] = 10.0 * params[name], 1000.0 * loud[name]
    found = [predicted(wing, "hnet", TEXT, weights, config) for weights in (params, loud)]
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    assert np.array_equal(found[0][1], found[1][1])


@both
def test_rows_do_not_see_each_other(wing):
    """Texts of one batch with patches and chunks of their own: each has the logits that it has alone."""
    rng = np.random.default_rng(0)
    tokens = np.concatenate([TEXT[:, :30], rng.integers(0, 256, (1, 30)), np.full((1, 30), 97)])
    for kind in KINDS:
        config = small(kind)
        params = random_params(config)
        whole = logits_of(wing, kind, tokens, params, config)
        for row in range(3):
            alone = logits_of(wing, kind, tokens[row : row + 1], params, config)
            np.testing.assert_allclose(alone[0], whole[row], rtol=1e-9, atol=1e-9)


# -- gradients that no derivative checks --------------------------------------------------------------------------


@both
def test_equal_maxima_share_and_a_maximum_of_zero_counts_whole(wing):
    """Libraries that begin with a buffer of zeros give a maximum of 0 half of its gradient."""
    x = np.array([[[2.0], [2.0], [1.0], [0.0], [-1.0]]])
    ids, dy = np.array([[0, 0, 0, 1, 1]]), np.array([[[3.0], [5.0]]])
    if wing.package == "numpy_ref":
        _, vjp = wing.module("patching.cross_attention").patch_max(x, ids, 2)
        dx = vjp(dy)
    else:
        leaf = torch.from_numpy(x).requires_grad_()
        wing.module("patching.cross_attention").patch_max(leaf, torch.from_numpy(ids), 2).backward(torch.from_numpy(dy))
        dx = leaf.grad.numpy()
    assert dx.ravel().tolist() == [1.5, 1.5, 0.0, 5.0, 0.0]


def test_straight_through():
    """Forward the chunk's vector to the last bit, backward what the router would hear without it; the same on both sides."""
    rng = np.random.default_rng(1)
    chunks, p = rng.standard_normal((2, 3, 4)), rng.uniform(0, 1, (2, 7))
    borders_ = np.array([[1, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1]], bool)
    dy = rng.standard_normal((2, 7, 4))
    numpy_spread, torch_spread = (wing.module("patching.chunking").spread for wing in WINGS)
    y, vjp = numpy_spread(chunks, p, borders_)
    assert np.array_equal(y, chunks[np.arange(2)[:, None], np.cumsum(borders_, 1) - 1])
    dchunks, dp = vjp(dy)
    assert np.array_equal(dp, numpy_spread(chunks, p, borders_, False)[1](dy)[1])
    leaves = [torch.from_numpy(a).requires_grad_() for a in (chunks, p)]
    found = torch_spread(*leaves, torch.from_numpy(borders_))
    assert np.array_equal(found.detach().numpy(), y)
    grads = torch.autograd.grad(found, leaves, torch.from_numpy(dy))
    np.testing.assert_allclose(grads[0].numpy(), dchunks, rtol=1e-12)
    np.testing.assert_allclose(grads[1].numpy(), dp, rtol=1e-12)


def test_the_router_learns_from_the_next_byte():
    """Without a ratio loss the router still has a gradient, through the weighing and the smoothing."""
    config = small("hnet", ratio_weight=0.0)
    params = random_params(config)
    for wing in WINGS:
        arguments = [wing.array(value) for value in (params, TEXT[:, :-1], TEXT[:, 1:])]
        _, grads = wing.module("patching.step").loss_and_grads(*arguments, config)
        assert np.abs(np.asarray(grads["route.query.weight"])).max() > 1e-6


@both
def test_the_ratio_loss_is_least_at_its_target(wing):
    """1 at F = G = 1/N; with as many borders as asked for there is no push either way."""
    p = np.full((1, 12), 0.25)
    value = wing.call("patching.chunking", "ratio_loss", p, np.arange(12)[None] % 4 == 0, 4.0)
    assert value == pytest.approx(1.0)
    _, vjp = WINGS[0].module("patching.chunking").ratio_loss(p, np.arange(12)[None] % 4 == 0, 4.0)
    assert np.abs(vjp(1.0)).max() < 1e-15
    with pytest.raises(UserError, match="more than 1"):
        wing.call("patching.chunking", "ratio_loss", p, p > 0.5, 1.0)


# -- training -----------------------------------------------------------------------------------------------------


@every
def test_both_sides_train_to_the_same_weights(kind):
    """Eight steps in float64 from the same seed; the loss falls."""
    config, train = small(kind, init_std=0.1), TrainConfig(weight_decay=0.1, clip=1.0)
    inputs, targets = TEXT[:, :-1], TEXT[:, 1:]
    ends, heard = [], []
    for wing in WINGS:
        step, starts = wing.module("patching.step"), wing.array(borders(wing, kind, inputs))
        params = wing.module("patching.initialise").initialise(config, 3, wing.float64)
        states = wing.module("training.optimizer").init_states(params, train)
        losses = []
        for _ in range(8):
            metrics, params, states = step.train_step(
                params, states, wing.array(inputs), wing.array(targets), config, train, 0.02, starts
            )
            losses.append(float(metrics["loss"]))
        total = step.total_nats(params, wing.array(inputs), wing.array(targets), config, starts)
        assert losses[-1] < losses[0] - 0.3 and float(total) / targets.size < losses[0]
        ends.append({name: np.asarray(value) for name, value in params.items()})
        heard.append([*losses, float(total)])
    np.testing.assert_allclose(heard[0], heard[1], rtol=1e-9)
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-6, atol=1e-9, err_msg=name)


@every
def test_gradients_of_a_step_are_the_same(kind):
    """Straight-through and all: what the declarations of the models leave out."""
    config, found = small(kind, ratio_weight=0.5), []
    inputs, targets, params = TEXT[:, :-1], TEXT[:, 1:], random_params(small(kind))
    for wing in WINGS:
        arguments = [wing.array(value) for value in (params, inputs, targets)]
        metrics, grads = wing.module("patching.step").loss_and_grads(*arguments, config, wing.array(borders(wing, kind, inputs)))
        found.append((metrics, {name: np.asarray(grad) for name, grad in grads.items()}))
    for name in ("loss", "auxiliary", "patches"):
        assert float(found[0][0][name]) == pytest.approx(float(found[1][0][name]), rel=1e-12)
    for name, grad in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], grad, rtol=1e-8, atol=1e-12, err_msg=name)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_smaller_formats_come_close(kind, dtype):
    """The models whose borders or maxima may fall elsewhere in fewer digits have no budget there: the loss must be close."""
    config, step = small(kind), WINGS[1].module("patching.step")
    params = {name: torch.from_numpy(value) for name, value in random_params(config).items()}
    inputs, targets = torch.from_numpy(TEXT[:, :-1]), torch.from_numpy(TEXT[:, 1:])
    starts = borders(WINGS[1], kind, TEXT[:, :-1])
    starts = None if starts is None else torch.from_numpy(starts)
    exact, _ = step.loss_and_grads(params, inputs, targets, config, starts)
    params = {name: value.float() for name, value in params.items()}
    found, grads = step.loss_and_grads(params, inputs, targets, config, starts, None if dtype == torch.float32 else dtype)
    assert float(found["loss"]) == pytest.approx(float(exact["loss"]), rel=1e-4 if dtype == torch.float32 else 0.05)
    assert all(grad.dtype == torch.float32 and torch.isfinite(grad).all() for grad in grads.values())


# -- what it costs ------------------------------------------------------------------------------------------------


@every
def test_operations_are_those_that_are_done(kind):
    """Products with weights as PyTorch counts them, and as ``flops_per_byte`` does: for the patches that there are."""
    config = small(kind, context=64, window=0, patch=4)
    tokens = TEXT[:, :64]
    starts = borders(WINGS[1], kind, tokens)
    params = {name: torch.from_numpy(value) for name, value in random_params(config).items()}
    borders_ = None if starts is None else torch.from_numpy(starts)
    patches = {"bytes": 64, "blt": starts is not None and int(starts[:, :-1].sum()), "megabyte": 16, "hnet": 0}[kind]
    if kind == "hnet":
        hnet = WINGS[1].module("patching.hnet")
        seen, select = [], hnet.select
        hnet.select = lambda x, b: (seen.append(int(b.sum())), select(x, b))[1]
        try:
            WINGS[1].module("patching.model").byte_model(torch.from_numpy(tokens), params, config)
        finally:
            hnet.select = select
        patches = seen[0]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        WINGS[1].module("patching.model").byte_model(torch.from_numpy(tokens), params, config, borders_)
    counts = {str(op): number for op, number in counter.get_flop_counts()["Global"].items()}
    products = sum(number for op, number in counts.items() if "mm" in op and "bmm" not in op)
    attention = 0.0
    for name in {"bytes": ["decoder"], "megabyte": ["global", "decoder"]}.get(kind, ["encoder", "global", "decoder"]):
        stack = config.stack(name)
        length = {"global": patches}.get(name, 4 if kind == "megabyte" else 64)
        rows = patches if name == "global" else 64
        attention += 4 * stack.width * stack.layers * (length + 1) / 2 * rows
    attention += 8 * config.width * config.slices * 64 if kind == "blt" else 0
    attention += 64 * 2 * 2 * config.width**2 if kind == "hnet" else 0  # the router's products, which are no "mm" there
    bytes_per_patch = 1.0 if kind == "bytes" else 64 / patches
    assert 64 * flops_per_byte(config, bytes_per_patch) - attention == pytest.approx(products, rel=1e-6)


def test_parameters_are_counted():
    for kind in KINDS:
        config = small(kind)
        assert parameter_count(config) == sum(value.size for value in random_params(config).values())


BAD = {
    "unknown kind": ({"kind": "words"}, "kind='words'"),
    "no bytes": ({"context": 0}, "context=0"),
    "odd heads": ({"width": 10, "heads": 4}, "10 features"),
    "patch vector of no whole slices": ({"kind": "blt", "width": 12, "global_width": 16, "heads": 2}, "multiple of width"),
    "patch vector of no whole bytes": ({"kind": "megabyte", "patch": 3}, "multiple of patch"),
    "n-grams that are none": ({"ngrams": "3,x"}, "ngrams="),
    "n-grams of nothing": ({"ngrams": "0"}, "ngrams="),
    "n-grams twice": ({"ngrams": "3,3"}, "ngrams="),
    "a target of one byte": ({"target": 1.0}, "target=1.0"),
    "weight that is none": ({"ratio_weight": float("nan")}, "ratio_weight"),
}


@pytest.mark.parametrize("options, words", BAD.values(), ids=BAD)
def test_settings_that_cannot_be_are_one_clear_line(options, words):
    with pytest.raises(UserError) as error:
        PatchConfig(**options)
    assert words in str(error.value) and "\n" not in str(error.value)


@both
def test_inputs_that_cannot_be_are_one_clear_line(wing):
    for kind, tokens, starts, words in (
        ("bytes", np.zeros((1, 99), np.int64), None, "80"),
        ("bytes", TEXT, np.ones((1, 69), bool), "borders"),
        ("blt", TEXT, None, "borders"),
    ):
        with pytest.raises(UserError, match=words):
            wing.call("patching.model", "byte_model", tokens, random_params(small(kind)), small(kind), starts)
    with pytest.raises(UserError, match="fewer than one"):
        flops_per_byte(small("blt"), 0.5)
