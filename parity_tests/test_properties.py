"""Properties that no pair can prove, because both sides would share the mistake.

Each holds for a right model whatever its weights are, and breaks for a known class of wrong ones: a leak from the
future, padding that is seen, heads cut along the wrong axis, a loss averaged twice.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig, parameter_count, parameter_shapes
from numpy_ref.presets import preset
from parity_tests.wings import WINGS

CONFIGS = [
    ModelConfig(vocab_size=13, context=12, layers=2, width=8, heads=2, feed_forward=16),
    ModelConfig(vocab_size=13, context=12, layers=2, width=8, heads=4, feed_forward=16, norm_position="post", positions="learned"),
    ModelConfig(vocab_size=13, context=12, layers=1, width=8, heads=1, feed_forward=16, tie_embeddings=True, activation="relu"),
]
both = pytest.mark.parametrize("wing", WINGS, ids=str)
configs = pytest.mark.parametrize("config", CONFIGS, ids=["pre", "post", "tied"])


def random_params(config, seed=0):
    """Weights large enough that every branch matters; norm weights around one."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(config)
    return {name: rng.normal(size=shape) * 0.5 + name.endswith("norm.weight") for name, shape in shapes.items()}


def logits_of(wing, tokens, params, config):
    return wing.call("model.transformer", "transformer", tokens, params, config)


@both
@configs
def test_the_future_does_not_reach_back(wing, config):
    """Changing tokens from position t on leaves every logit before t as it was."""
    rng, params = np.random.default_rng(1), random_params(config)
    tokens = rng.integers(0, 13, size=(2, 12))
    before = logits_of(wing, tokens, params, config)
    for t in (1, 5, 11):
        changed = tokens.copy()
        changed[:, t:] = (changed[:, t:] + 1 + rng.integers(0, 11, size=(2, 12 - t))) % 13
        after = logits_of(wing, changed, params, config)
        np.testing.assert_allclose(after[:, :t], before[:, :t], rtol=0, atol=1e-13)
        assert np.abs(after[:, t] - before[:, t]).max() > 1e-3  # and the present does matter


@both
@configs
def test_a_prefix_is_the_short_sequence(wing, config):
    """The logits of the first t tokens do not know how long the sequence is."""
    tokens, params = np.random.default_rng(2).integers(0, 13, size=(1, 12)), random_params(config)
    full = logits_of(wing, tokens, params, config)
    for t in (1, 2, 7):
        np.testing.assert_allclose(logits_of(wing, tokens[:, :t], params, config), full[:, :t], rtol=0, atol=1e-12)


@both
@configs
def test_rows_of_a_batch_do_not_see_each_other(wing, config):
    tokens, params = np.random.default_rng(3).integers(0, 13, size=(4, 9)), random_params(config)
    together = logits_of(wing, tokens, params, config)
    for row in range(4):
        np.testing.assert_allclose(logits_of(wing, tokens[row : row + 1], params, config)[0], together[row], rtol=0, atol=1e-12)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(logits_of(wing, tokens[order], params, config), together[order], rtol=0, atol=1e-12)


@both
def test_heads_may_be_reordered(wing):
    """Permuting the heads in the three projections and in the output's columns changes nothing."""
    rng, heads, width = np.random.default_rng(4), 4, 12
    x = rng.normal(size=(2, 5, width))
    weight, output = rng.normal(size=(3, heads, width // heads, width)), rng.normal(size=(width, heads, width // heads))

    def attend(order):
        params = {
            "query_key_value.weight": weight[:, order].reshape(3 * width, width),
            "output.weight": np.ascontiguousarray(output[:, order]).reshape(width, width),
        }
        return wing.call("model.multi_head_attention", "multi_head_attention", x, params, ModelConfig(width=width, heads=heads))

    np.testing.assert_allclose(attend([2, 0, 3, 1]), attend([0, 1, 2, 3]), rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_invisible(wing, side):
    """Padded attention equals attention on the tokens alone, whatever stands in the padding."""
    rng, width = np.random.default_rng(5), 8
    x = rng.normal(size=(1, 5, width))
    params = {"query_key_value.weight": rng.normal(size=(24, width)), "output.weight": rng.normal(size=(width, width))}
    alone = wing.call("model.multi_head_attention", "multi_head_attention", x, params, ModelConfig(width=width, heads=2))
    filler = rng.normal(size=(1, 3, width)) * 1e3
    padded = np.concatenate([filler, x] if side == "left" else [x, filler], axis=1)
    real = slice(3, 8) if side == "left" else slice(0, 5)
    mask = np.zeros((1, 1, 1, 8), bool)
    mask[..., real] = True
    y = wing.call("model.multi_head_attention", "multi_head_attention", padded, params, ModelConfig(width=width, heads=2), mask)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[:, real], alone, rtol=0, atol=1e-12)


@both
def test_packed_segments_are_separate_sequences(wing):
    """A block-diagonal mask over two documents equals two runs."""
    rng, width = np.random.default_rng(6), 8
    first, second = rng.normal(size=(1, 3, width)), rng.normal(size=(1, 4, width))
    params = {"query_key_value.weight": rng.normal(size=(24, width)), "output.weight": rng.normal(size=(width, width))}
    segment = np.array([0] * 3 + [1] * 4)
    mask = (segment[:, None] == segment[None, :])[None, None]
    packed = wing.call("model.multi_head_attention", "multi_head_attention", np.concatenate([first, second], 1), params, ModelConfig(width=width, heads=2), mask)
    for x, part in ((first, slice(0, 3)), (second, slice(3, 7))):
        np.testing.assert_allclose(packed[:, part], wing.call("model.multi_head_attention", "multi_head_attention", x, params, ModelConfig(width=width, heads=2)), atol=1e-12)


@both
def test_a_constant_added_to_all_scores_changes_no_probability(wing):
    x = np.random.default_rng(7).normal(size=(3, 9)) * 4
    np.testing.assert_allclose(wing.call("model.softmax", "softmax", x + 512.0), wing.call("model.softmax", "softmax", x), rtol=1e-12)
    assert np.isfinite(wing.call("model.softmax", "softmax", x * 1e30)).all()


@both
def test_layer_norm_ignores_shift_and_scale(wing):
    rng = np.random.default_rng(8)
    x, weight, bias = rng.normal(size=(4, 7)), rng.normal(size=7), rng.normal(size=7)
    norm = lambda x: wing.call("model.norms", "layer_norm", x, weight, bias, 1e-30)  # noqa: E731
    np.testing.assert_allclose(norm(x * 8.0 + 3.0), norm(x), rtol=0, atol=1e-12)


@both
def test_micro_batches_sum_to_the_batch(wing):
    """With one global denominator the parts of a loss add up, also when they have unequal numbers of valid tokens."""
    rng = np.random.default_rng(9)
    logits, targets = rng.normal(size=(4, 6, 5)), rng.integers(0, 5, size=(4, 6))
    targets[0, 1:] = targets[2, :3] = -100
    valid = int((targets != -100).sum())
    loss = lambda part: wing.call(  # noqa: E731
        "training.losses", "cross_entropy", logits[part], targets[part], label_smoothing=0.1, z_loss=1e-3, denominator=valid
    )
    parts = sum(float(loss(slice(i, i + 1))) for i in range(4))
    assert parts == pytest.approx(float(loss(slice(None))), rel=1e-13)
    mean_of_means = np.mean([float(wing.call("training.losses", "cross_entropy", logits[i], targets[i])) for i in range(4)])
    assert abs(mean_of_means - float(wing.call("training.losses", "cross_entropy", logits, targets))) > 1e-3


@both
def test_a_model_that_knows_nothing_loses_log_v(wing):
    """Zero weights give equal logits: loss ln V, perplexity V, and with one byte a token log2 V bits per byte."""
    config = CONFIGS[0]
    params = {name: np.zeros(shape) for name, shape in parameter_shapes(config).items()}
    tokens = np.random.default_rng(10).integers(0, 13, size=200).astype(np.uint8)
    result = wing.call("training.evaluate", "evaluate", params, config, tokens, 4)
    assert result["loss"] == pytest.approx(math.log(13), rel=1e-12)
    assert result["perplexity"] == pytest.approx(13, rel=1e-12)
    assert result["bits_per_byte"] == pytest.approx(math.log2(13), rel=1e-12)
    assert result["tokens"] == 199  # the first token has nothing before it
    double = wing.call("training.evaluate", "evaluate", params, config, tokens, 4, bytes_per_token=2.0)
    assert double["bits_per_byte"] == pytest.approx(math.log2(13) / 2, rel=1e-12)


@both
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True, "logit_softcap": 3.0}], ids=["plain", "tied, capped"])
def test_evaluation_in_chunks_is_that_of_all_logits(wing, changes, monkeypatch):
    """No chunk is lost, counted twice or bent differently; and no more logits than allowed are ever asked for."""
    config = dataclasses.replace(CONFIGS[0], **changes)
    params, tokens = random_params(config), np.random.default_rng(12).integers(0, 13, size=100).astype(np.uint8)
    module, seen = wing.module("training.evaluate"), []
    inner = module.cross_entropy

    def watched(logits, *rest, **more):
        seen.append(len(logits))
        return inner(logits, *rest, **more)

    whole = wing.call("training.evaluate", "evaluate", params, config, tokens, 4)
    monkeypatch.setattr(module, "cross_entropy", watched)
    monkeypatch.setattr(TrainConfig, "loss_rows", lambda self, tokens, vocabulary: 7)
    parts = wing.call("training.evaluate", "evaluate", params, config, tokens, 4)
    assert max(seen) == 7 and sum(seen) == 99
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-13) and parts["tokens"] == whole["tokens"]
    inputs, targets = tokens[None, :6], tokens[1:7]
    logits = wing.call("model.transformer", "transformer", inputs.astype(np.int64), params, config)
    first = wing.call("training.losses", "cross_entropy", logits[0], targets.astype(np.int64))
    one = wing.call("training.evaluate", "evaluate", params, config, tokens[:7], 4, context=6)
    assert one["loss"] == pytest.approx(float(first), rel=1e-12)


@both
def test_the_shifted_targets_are_the_next_tokens(wing):
    tokens = np.arange(50, dtype=np.uint16)
    inputs, targets = wing.call("data.batches", "batch", tokens, 0, 8, 6, 0)
    assert inputs.shape == targets.shape == (8, 6) and inputs.dtype == targets.dtype == np.int64
    np.testing.assert_array_equal(targets, inputs + 1)


@both
def test_an_epoch_shows_every_window_once_and_the_next_in_another_order(wing):
    tokens = np.arange(37, dtype=np.uint16)
    count = wing.call("data.batches", "windows", 37, 6)
    assert count == 31
    epochs = [wing.call("data.batches", "batch", tokens, e * count, count, 6, 3)[0][:, 0] for e in range(2)]
    for starts in epochs:
        np.testing.assert_array_equal(np.sort(starts), np.arange(31))
    assert (epochs[0] != epochs[1]).any()
    resumed = wing.call("data.batches", "batch", tokens, 10, 7, 6, 3)[0][:, 0]
    np.testing.assert_array_equal(resumed, epochs[0][10:17])  # the position alone says what comes next


@both
def test_evaluation_reads_every_token_once(wing):
    tokens = np.arange(23, dtype=np.uint8)
    seen = [targets for _, targets in wing.module("data.batches").evaluation_windows(wing.array(tokens), 5, 2)]
    seen = np.concatenate([np.asarray(t).reshape(-1) for t in seen])
    np.testing.assert_array_equal(np.sort(seen), np.arange(1, 23))


@both
def test_initial_weights_have_their_deviations(wing):
    """GPT-2's: 0.02, and 0.02 / sqrt(2 layers) for what writes into the residual stream."""
    config, _ = preset("showcase")
    params = wing.call("model.initialise", "initialise", config, 7, wing.float32)
    assert list(params) == list(parameter_shapes(config))
    assert sum(p.size for p in params.values()) == parameter_count(config) == 856_832
    for name, value in params.items():
        assert value.shape == parameter_shapes(config)[name] and value.dtype == np.float32
        if name.endswith("norm.weight"):
            assert (value == 1).all()
        elif name.endswith("bias"):
            assert (value == 0).all()
        else:
            residual = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
            expected = 0.02 / math.sqrt(2 * config.layers) if residual else 0.02
            assert value.std() == pytest.approx(expected, rel=0.03) and abs(value.mean()) < 5 * expected / math.sqrt(value.size)


@both
def test_dropout_keeps_its_share_and_its_mean(wing):
    keep = wing.call("model.dropout", "dropout_mask", 3, 5, (400, 250), 0.25)
    assert keep.dtype == bool and abs(keep.mean() - 0.75) < 5 * math.sqrt(0.25 * 0.75 / keep.size)
    x = np.ones((400, 250))
    y = wing.call("model.dropout", "dropout", x, keep, 0.25)
    np.testing.assert_array_equal(np.unique(y), [0, 1 / 0.75])
    other = wing.call("model.dropout", "dropout_mask", 3, 6, (400, 250), 0.25)
    assert 0.5 < (keep == other).mean() < 0.75  # another stream, another mask: agreement 0.25^2 + 0.75^2


PROMPTS = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6, 7, 8, 9, 10, 11, 12, 0, 1, 2, 3, 4, 5])]


@both
@configs
@pytest.mark.parametrize("greedy", [True, False])
def test_a_row_does_not_know_its_neighbours(wing, config, greedy):
    """Greedy rows alone equal rows in a batch; sampled ones too for the row whose number is the same."""
    params, sample = random_params(config), SampleConfig(tokens=15, greedy=greedy, seed=4)
    together = wing.call("inference.generate", "generate", params, config, PROMPTS, sample)
    assert [len(row) for row in together] == [15] * 3  # past the context of 12: the window slides
    alone = [wing.call("inference.generate", "generate", params, config, [p], sample)[0] for p in (PROMPTS if greedy else PROMPTS[:1])]
    for row, single in zip(together, alone):
        np.testing.assert_array_equal(row, single)


@configs
@pytest.mark.parametrize(
    "options", [{"greedy": True}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1, "temperature": 1.5}], ids=str
)
def test_both_sides_say_the_same_words(config, options):
    params, sample = random_params(config, 1), SampleConfig(tokens=20, seed=11, **options)
    a, b = (wing.call("inference.generate", "generate", params, config, PROMPTS, sample) for wing in WINGS)
    for row_a, row_b in zip(a, b):
        np.testing.assert_array_equal(row_a, row_b)


@both
def test_a_stop_token_ends_its_row_only(wing):
    config, sample = CONFIGS[0], SampleConfig(tokens=12, seed=2)
    params = random_params(config)
    free = wing.call("inference.generate", "generate", params, config, PROMPTS, sample)
    stop = int(free[0][5])
    stopped = wing.call("inference.generate", "generate", params, config, PROMPTS, sample, stop=(stop,))
    for row, whole in zip(stopped, free):
        hits = np.flatnonzero(np.asarray(whole) == stop)
        np.testing.assert_array_equal(row, whole[: hits[0]] if len(hits) else whole)


@both
def test_streaming_reports_every_token_in_order(wing):
    config, sample, heard = CONFIGS[0], SampleConfig(tokens=6, seed=2), [[], [], []]
    rows = wing.call(
        "inference.generate", "generate", random_params(config), config, PROMPTS, sample,
        on_token=lambda row, token: heard[row].append(int(token)),
    )  # fmt: skip
    assert [list(map(int, row)) for row in rows] == heard


@both
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_learns_a_cycle(wing, optimizer):
    """0 1 2 ... 12 0 1 ...: soon the next token is all but certain; labels shifted twice would never get there."""
    config = ModelConfig(vocab_size=13, context=12, layers=1, width=16, heads=2, feed_forward=32, embedding_scale=4.0)
    train = TrainConfig(steps=60, batch=8, lr=2e-2, warmup=4, optimizer=optimizer, dtype="float64")
    tokens = np.tile(np.arange(13, dtype=np.uint8), 30)
    params = wing.module("model.initialise").initialise(config, 0, wing.float64)
    states = wing.module("training.optimizer").init_states(params, train)
    for step in range(60):
        inputs, targets = wing.module("data.batches").batch(wing.array(tokens), step * 8, 8, 12, 0)
        log, params, states = wing.module("training.step").train_step(params, states, inputs, targets, config, train, step)
    assert float(log["loss"]) < 0.1 < math.log(13)


@pytest.mark.parametrize("length", [4, 5, 8, 11])
def test_causal_attention_in_blocks(length, monkeypatch):
    """16-bit causal attention on a CPU goes block by block of queries: value and gradients are those of the reference."""
    from numpy_ref.model.attention import scaled_dot_product_attention as reference
    from torch_impl.model import attention

    monkeypatch.setattr(attention, "_CAUSAL_BLOCK", 4)
    rng = np.random.default_rng(length)
    tensors = [torch.from_numpy(rng.standard_normal((2, heads, length, 6))).bfloat16() for heads in (4, 2, 2, 4)]
    *leaves, dy = tensors
    y = attention.scaled_dot_product_attention(*(x.requires_grad_() for x in leaves), None, True)
    found = [y, *torch.autograd.grad(y, leaves, dy)]
    value, vjp = reference(*(x.detach().double().numpy() for x in leaves), None, True)
    for ours, exact in zip(found, (value, *vjp(dy.double().numpy()))):
        exact = torch.from_numpy(exact)
        assert (ours.detach().double() - exact).norm() < 0.02 * exact.norm()
