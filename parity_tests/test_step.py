"""Training steps as wholes: micro-batches, recomputation, chunked losses, averages, and steps that must not count."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch

import torch_impl.training.losses as torch_losses
import torch_impl.training.step as torch_step
from numpy_ref import checkpoint_file
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError
from parity_tests.test_properties import random_params
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
MODEL = ModelConfig(vocab_size=13, context=12, layers=2, width=8, heads=2, feed_forward=16, dropout=0.2)
TIED = dataclasses.replace(
    MODEL, tie_embeddings=True, logit_softcap=4.0, heads=4, kv_heads=2, activation="swiglu", norm="rms", positions="rope"
)
POST = dataclasses.replace(MODEL, norm_position="post", positions="learned")
models = pytest.mark.parametrize("model", [MODEL, TIED, POST], ids=["pre", "tied", "post"])
TRAIN = TrainConfig(batch=12, dtype="float64", device="cpu", label_smoothing=0.1, z_loss=1e-3, warmup=0, steps=50)


def unequal_batch(seed=0):
    """12 rows, whose numbers of targets that count go from none to all."""
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(0, 13, (2, 12, 10))
    return inputs, np.where(np.arange(10) < np.arange(12)[:, None] % 11, targets, -100)


def gradients(wing, model, train, batch=None, **more):
    inputs, targets = batch or unequal_batch()
    params = wing.array(random_params(model))
    loss, grads = wing.module("training.step").loss_and_grads(
        params, wing.array(inputs), wing.array(targets), model, train, 3, **wing.array(more)
    )
    return float(loss), plain(grads)


def assert_close(one, other, tolerance):
    assert one[0] == pytest.approx(other[0], rel=tolerance, abs=tolerance)
    for name, grad in one[1].items():
        assert np.abs(grad - other[1][name]).max() <= tolerance * max(1e-3, np.abs(grad).max()), name


@both
@models
def test_micro_batches_equal_the_batch(wing, model):
    """Loss and every gradient, with dropout, and with parts that have no target at all."""
    documents = np.repeat([[0] * 4 + [1] * 6], 12, axis=0)
    for more in ({}, {"documents": documents}):
        whole = gradients(wing, model, TRAIN, **more)
        for parts in (2, 3, 12):
            found = gradients(wing, model, dataclasses.replace(TRAIN, accumulate=parts), **more)
            assert_close(found, whole, 1e-12)


@both
def test_a_mean_of_means_is_something_else(wing):
    """What the one denominator is for: the parts' own means, averaged, are off by far."""
    inputs, targets = unequal_batch()
    whole, parts = gradients(wing, MODEL, TRAIN), [slice(first, first + 4) for first in (0, 4, 8)]
    own = [gradients(wing, MODEL, dataclasses.replace(TRAIN, batch=4), (inputs[p], targets[p])) for p in parts]
    assert abs(np.mean([loss for loss, _ in own]) - whole[0]) > 1e-3


def unequal_weights(seed=1):
    """A weight for each target of ``unequal_batch``: 0, a little, 1; whole rows, and a whole third of the rows, of 0."""
    weights = np.random.default_rng(seed).choice([0.0, 0.125, 1.0], (12, 10))
    weights[:4] = 0
    return weights


@both
@models
@pytest.mark.parametrize("chunk", [0, 7])
def test_a_weighted_loss_is_the_weighted_mean_of_the_tokens_own(wing, model, chunk):
    """One denominator, the weight of all that counts, however the rows are cut: ``loss_denominator`` in Torch."""
    inputs, targets = unequal_batch()
    weights = unequal_weights()
    train = dataclasses.replace(TRAIN, loss_chunk=chunk)
    whole = gradients(wing, model, train, weights=weights)
    for parts in (2, 3, 12):
        assert_close(gradients(wing, model, dataclasses.replace(train, accumulate=parts), weights=weights), whole, 1e-12)
    share = weights * (targets != -100)
    total, summed = 0.0, {}
    for row, column in zip(*np.nonzero(share)):  # each token alone, by the loss without weights
        own = np.full_like(targets, -100)
        own[row, column] = targets[row, column]
        loss, grads = gradients(wing, model, train, (inputs, own))
        total += share[row, column] / share.sum() * loss
        summed = {name: summed.get(name, 0) + share[row, column] / share.sum() * grad for name, grad in grads.items()}
    assert_close(whole, (total, summed), 1e-12)


@both
def test_equal_weights_change_nothing_and_their_size_does_not_matter(wing):
    whole = gradients(wing, MODEL, TRAIN)
    for size in (1.0, 0.25, 1000.0):
        assert_close(gradients(wing, MODEL, TRAIN, weights=np.full((12, 10), size)), whole, 1e-12)


@both
def test_tokens_without_weight_may_be_anything(wing):
    """What has weight 0 can't change a bit, even as a target that no vocabulary has."""
    inputs, targets = unequal_batch()
    weights = unequal_weights()
    whole = gradients(wing, MODEL, TRAIN, (inputs, targets), weights=weights)
    other = np.where(weights == 0, 99_999, targets)
    again = gradients(wing, MODEL, TRAIN, (inputs, other), weights=weights)
    assert again[0] == whole[0] and all(np.array_equal(grad, again[1][name]) for name, grad in whole[1].items())
    loss, grads = gradients(wing, MODEL, TRAIN, (inputs, other), weights=0 * weights)
    assert loss == 0 and not any(grad.any() for grad in grads.values())


@both
def test_micro_batches_must_divide_the_batch(wing):
    with pytest.raises(UserError, match="divisor of 12"):
        dataclasses.replace(TRAIN, accumulate=5)
    with pytest.raises(UserError, match="accumulate=4"):
        gradients(wing, MODEL, dataclasses.replace(TRAIN, accumulate=4), tuple(x[:6] for x in unequal_batch()))


@both
@models
def test_recomputed_gradients_are_the_same_bits(wing, model):
    kept = gradients(wing, model, TRAIN)
    again = gradients(wing, model, dataclasses.replace(TRAIN, recompute=True))
    assert again[0] == kept[0] and all(np.array_equal(grad, again[1][name]) for name, grad in kept[1].items())


@both
@models
def test_a_loss_in_chunks_is_the_loss(wing, model):
    whole = gradients(wing, model, TRAIN)
    for chunk in (1, 7, 64, 1000):
        assert_close(gradients(wing, model, dataclasses.replace(TRAIN, loss_chunk=chunk)), whole, 1e-12)


def test_many_logits_are_cut_by_themselves():
    config = TrainConfig()
    assert config.loss_rows(4096, 256) == 4096
    assert config.loss_rows(4096, 128_000) * 128_000 <= 1 << 25
    assert TrainConfig(loss_chunk=64).loss_rows(4096, 128_000) == 64


def saved_bytes(model, recompute):
    """What autograd keeps for the backward pass of one step."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        gradients(WINGS[1], model, dataclasses.replace(TRAIN, recompute=recompute))
    return sum(kept.values())


def test_recomputing_keeps_less():
    """Four layers: what is kept grows by a block's input a layer, not by everything inside of it."""
    model = dataclasses.replace(MODEL, layers=4, dropout=0.0)
    weights = sum(value.nbytes for value in random_params(model).values())
    plain_bytes, again = (saved_bytes(model, recompute) - weights for recompute in (False, True))
    assert again < 0.5 * plain_bytes

    inputs, _ = unequal_batch()
    held = []
    for recompute in (False, True):
        tracemalloc.start()
        kept = WINGS[0].module("model.transformer").transformer(inputs, random_params(model), model, recompute=recompute)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del kept
    assert held[1] < 0.5 * held[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradient_of_the_head_is_summed_in_float32(dtype, reduction):
    """4096 equal tokens in chunks of 4: in 16 bits their sum would stop growing at a few hundred."""
    dtype = getattr(torch, dtype)
    x = torch.ones(4096, 2, dtype=dtype)
    weight = torch.zeros(3, 2, dtype=dtype, requires_grad=True)
    targets = torch.zeros(4096, dtype=torch.long)
    torch_losses.linear_cross_entropy(x, weight, targets, reduction=reduction, chunk=4).mean().backward()
    assert torch.allclose(weight.grad.double(), torch.tensor([[-2 / 3], [1 / 3], [1 / 3]]).double(), rtol=2.0**-7)


def test_small_gradients_survive_float16():
    """One token in 4096 has a gradient near 1e-4 / 4096: below float16's smallest number, unless scaled before."""
    x = torch.full((4096, 2), 0.5, dtype=torch.float16, requires_grad=True)
    weight = torch.tensor([[1e-3, 0], [0, 1e-3]], dtype=torch.float16)
    loss = torch_losses.linear_cross_entropy(x, weight, torch.zeros(4096, dtype=torch.long), chunk=64)
    (loss * 2.0**16).backward()
    expected = 2.0**16 / 4096 * -0.5 * 1e-3
    assert torch.allclose(x.grad[:, 0].double(), torch.tensor(expected).double(), rtol=2.0**-8)


@both
def test_an_unknown_reduction_is_refused(wing):
    x, weight, targets = np.ones((3, 2)), np.ones((4, 2)), np.zeros(3, np.int64)
    with pytest.raises(UserError, match="reduction='median'"):
        wing.call("training.losses", "linear_cross_entropy", x, weight, targets, reduction="median")


# -- steps that must not count, and the moving average ------------------------------------------------------------


def start(wing, train, model=MODEL):
    params = wing.array(random_params(model))
    return params, wing.module("training.optimizer").init_states(params, train)


def take_step(wing, params, states, train, step=0, model=MODEL):
    inputs, targets = (wing.array(x) for x in unequal_batch(step))
    return wing.module("training.step").train_step(params, states, inputs, targets, model, train, step)


def copied(tree):
    return {name: copied(value) if isinstance(value, dict) else np.array(value) for name, value in plain(tree).items()}


def same(one, other):
    one, other = copied(one), copied(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        same(value, other[name]) if isinstance(value, dict) else np.testing.assert_array_equal(value, other[name])


STEPS = [(WINGS[0], dtype) for dtype in ("float64", "float32")]
STEPS += [(WINGS[1], dtype) for dtype in ("float64", "float32", "bfloat16", "float16")]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("wing, dtype", STEPS, ids=lambda value: str(value))
def test_a_step_that_is_not_finite_changes_nothing(wing, dtype, broken, optimizer):
    train = dataclasses.replace(TRAIN, dtype=dtype, optimizer=optimizer, ema=0.9)
    kind = np.float64 if dtype == "float64" else np.float32
    params = {name: value.astype(kind) for name, value in random_params(MODEL).items()}
    params, states = wing.array(params), None
    states = wing.module("training.optimizer").init_states(params, train)
    metrics, params, states = take_step(wing, params, states, train)
    assert not metrics["skipped"]
    params["blocks.1.feed_forward.up.weight"][0, 0] = broken
    before = copied(params), copied(states)
    metrics, params, states = take_step(wing, params, states, train, 1)
    assert metrics["skipped"] and not np.isfinite(float(metrics["loss"]) + float(metrics["grad_norm"]))
    scale, old = states.pop("loss_scale", None), before[1].pop("loss_scale", None)
    same(params, before[0])
    same(states, before[1])
    assert scale is None or scale["scale"] == old["scale"] / 2


@both
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_step_is_its_gradients_applied(wing, dtype):
    """``apply_gradients`` serves losses of any kind, and ``loss_scale`` says what to multiply them by before."""
    settings = dataclasses.replace(TRAIN, dtype=dtype, ema=0.5)
    dtypes = {"compute_dtype": torch.float16} if dtype == "float16" and str(wing) == "torch_impl" else {}
    module = wing.module("training.step")
    batch = wing.array(unequal_batch())
    results = []
    for whole in (True, False):
        params = wing.array({name: value.astype(np.float32 if dtypes else float) for name, value in random_params(MODEL).items()})
        states = wing.module("training.optimizer").init_states(params, settings)
        if whole:
            found = module.train_step(params, states, *batch, MODEL, settings, 3)
        else:
            more = {"dtype": dtypes["compute_dtype"]} if dtypes else {}
            scale = module.loss_scale(states, settings, **more)["scale"]
            assert scale == (2.0**16 if dtype == "float16" else 1.0)
            loss, grads = module.loss_and_grads(params, *batch, MODEL, settings, 3, scale=scale)
            found = module.apply_gradients(params, states, loss, grads, settings, 3, **more)
        results.append([float(found[0]["loss"]), plain(found[1]), plain(found[2]["ema"]), found[2].get("loss_scale")])
    (loss, params, average, scaling), (other_loss, other_params, other_average, other_scaling) = results
    assert loss == other_loss and scaling == other_scaling and bool(scaling) == (dtype == "float16")
    for name in params:
        assert np.array_equal(params[name], other_params[name]) and np.array_equal(average[name], other_average[name])


@both
def test_the_average_follows_the_weights(wing):
    """By its definition, over four steps; the weights themselves do not notice."""
    train = dataclasses.replace(TRAIN, ema=0.3)
    params, states = start(wing, train)
    expected = copied(params)
    for step in range(4):
        _, params, states = take_step(wing, params, states, train, step)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = {name: decay * old + (1 - decay) * plain(params[name]) for name, old in expected.items()}
    for name, value in expected.items():
        np.testing.assert_allclose(plain(states["ema"][name]), value, rtol=0, atol=1e-14)
    alone, others = start(wing, TRAIN)
    for step in range(4):
        _, alone, others = take_step(wing, alone, others, TRAIN, step)
    same(alone, params)
    assert "ema" not in others


@both
def test_the_average_goes_through_a_checkpoint(wing, tmp_path):
    train = dataclasses.replace(TRAIN, ema=0.5)
    params, states = start(wing, train)
    _, params, states = take_step(wing, params, states, train)
    checkpoint = wing.module("training.checkpoint")
    checkpoint.save(tmp_path, checkpoint_file.Run(MODEL, train, params, states, 1))
    for other in WINGS:
        same(other.module("training.checkpoint").load(tmp_path).states, states)


def test_a_compiled_model_recomputes_and_leaves_out_the_head():
    """What the training step may ask of ``forward``."""
    forward = torch.compile(torch_step.transformer, backend="aot_eager", dynamic=False)
    model, train = dataclasses.replace(MODEL, layers=1), dataclasses.replace(TRAIN, recompute=True, loss_chunk=32)
    inputs, targets = (torch.from_numpy(x) for x in unequal_batch())
    params = WINGS[1].array(random_params(model))
    loss, grads = torch_step.loss_and_grads(params, inputs, targets, model, train, 3, forward=forward)
    assert_close((float(loss), plain(grads)), gradients(WINGS[1], model, train), 1e-12)
