"""Number formats: every pattern of bits against PyTorch's casts, and 16-bit training on the NumPy side against Torch's."""

import dataclasses

import numpy as np
import pytest
import torch

from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError
from numpy_ref.precision import Rounded, plain as unrounded, round_to, stored, stored_like, stored_once
from parity_tests.test_properties import random_params
from parity_tests.wings import WINGS, plain

EIGHT = ("float8_e4m3fn", "float8_e5m2")
HALVES = ("bfloat16", "float16")


def same_bits(one, other):
    return ((one == other) & (np.signbit(one) == np.signbit(other))) | (np.isnan(one) & np.isnan(other))


@pytest.mark.parametrize("name", [*HALVES, *EIGHT])
def test_every_upper_half_rounds_like_pytorch(name):
    """All 2^16 upper halves of a float32, each with lower halves around a tie; and all float16 numbers."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    halves = [(upper | lower).view(np.float32) for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    x = np.concatenate([*halves, np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)])
    cast = torch.from_numpy(x)
    if name == "float8_e4m3fn":
        cast = cast.clamp(-448, 448)
    assert same_bits(round_to(x, name), cast.to(getattr(torch, name)).float().numpy()).all()


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*HALVES, *EIGHT])
def test_every_float32_rounds_like_pytorch(name):
    for start in range(0, 1 << 32, 1 << 24):
        x = np.arange(start, start + (1 << 24), dtype=np.uint64).astype(np.uint32).view(np.float32)
        cast = torch.from_numpy(x)
        if name == "float8_e4m3fn":
            cast = cast.clamp(-448, 448)
        assert same_bits(round_to(x, name), cast.to(getattr(torch, name)).float().numpy()).all()


@pytest.mark.parametrize("name", EIGHT)
def test_every_byte_is_a_number_of_its_format(name):
    """Rounding leaves what the format holds, and makes nothing else: 256 patterns, NaN among them."""
    held = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name)).float().numpy()
    assert same_bits(round_to(held, name), held).all()
    found = round_to(np.random.default_rng(0).normal(size=10_000) * 10.0 ** np.random.default_rng(1).integers(-6, 6, 10_000), name)
    assert np.isin(found, held).all()


def test_an_unknown_format_is_refused():
    for wing in WINGS:
        with pytest.raises(UserError, match="float7"):
            wing.call("precision", "round_to", np.ones(2, np.float32), "float7")


def test_rounded_arrays_round_every_result():
    x = stored(np.linspace(0, 1, 12).reshape(3, 4), "bfloat16")
    for y in (x + 1e-3, x * 3, x @ x.T, np.sum(x, axis=0), np.mean(x), np.concatenate((x, x)) / 3, np.exp(x)[::2].reshape(-1)):
        assert isinstance(y, Rounded) and np.array_equal(y, round_to(y, "bfloat16"))
    assert np.sum(stored(np.ones(1000), "bfloat16")) == 1000  # added up in float32, rounded once
    y = x.copy()
    y += 1e-3
    assert np.array_equal(y, x + 1e-3)
    assert type(unrounded(x)) is np.ndarray and not np.array_equal(unrounded(x) + 1e-3, y)  # plain: not rounded any more
    assert np.array_equal(stored_like(unrounded(x) + 1e-3, x), y) and stored_like(1.5, unrounded(x)) == 1.5


def test_stored_once_computes_in_float32_inside():
    def third(x):
        """In 16 bits x / 3 * 3 is not x."""
        return x / np.float32(3) * np.float32(3), lambda dy: (dy / np.float32(3) * np.float32(3), None)

    x = stored(np.linspace(0.1, 1, 50), "bfloat16")
    y, vjp = stored_once(third)(x)
    assert isinstance(y, Rounded) and np.array_equal(y, x) and not np.array_equal(third(x)[0], x)
    dx, nothing = vjp(x)
    assert isinstance(dx, Rounded) and np.array_equal(dx, x) and nothing is None
    y, _ = stored_once(value=False)(third)(x)
    assert type(y) is np.ndarray


MODEL = ModelConfig(vocab_size=32, context=16, layers=2, width=32, heads=4, feed_forward=64, dropout=0.1)
MODERN = dataclasses.replace(
    MODEL, kv_heads=2, activation="swiglu", norm="rms", positions="rope", qk_norm=True, tie_embeddings=True, dropout=0.0
)
EXPERTS = dataclasses.replace(MODERN, experts=4, shared_experts=1, noisy_router=True, scoring="sigmoid")
TRAIN = TrainConfig(steps=30, batch=4, lr=1e-2, warmup=5, device="cpu", balance_loss=0.0, sequence_balance_loss=0.01)


def batches(count=30):
    """Tokens that follow each other with noise, the same for every run."""
    rng = np.random.default_rng(0)
    tokens = np.cumsum(rng.choice([1, 3, 7], p=[0.7, 0.2, 0.1], size=count * 4 * 17)) % 32
    rows = tokens.reshape(count, 4, 17)
    return [(rows[i, :, :-1].copy(), rows[i, :, 1:].copy()) for i in range(count)]


def gradients(wing, model, dtype, **changes):
    params = {name: (0.3 * value).astype(np.float64 if dtype == "float64" else np.float32) for name, value in random_params(model).items()}
    inputs, targets = batches(1)[0]
    loss, grads = wing.module("training.step").loss_and_grads(
        wing.array(params), wing.array(inputs), wing.array(targets), model, dataclasses.replace(TRAIN, dtype=dtype, **changes), 0,
        scale=1024.0 if dtype == "float16" else 1.0,
    )
    return {"loss": np.asarray(plain(loss)), **plain(grads)}


def distance(one, other):
    """Mean over all gradients of |difference| / |gradient|."""
    return float(np.mean([np.linalg.norm(one[name] - other[name]) / np.linalg.norm(other[name]) for name in other if name != "loss"]))


@pytest.mark.parametrize("changes", [{}, {"loss_chunk": 5, "accumulate": 2}], ids=["plain", "chunks"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("model", [MODEL, MODERN, EXPERTS], ids=["classic", "modern", "experts"])
def test_both_sides_round_at_the_same_places(model, dtype, changes):
    """The two 16-bit gradients are as far from the exact one as each other, and nearer to each other than by chance."""
    exact = gradients(WINGS[0], model, "float64")
    ours, theirs = (gradients(wing, model, dtype, **changes) for wing in WINGS)
    assert all(ours[name].dtype == theirs[name].dtype == np.float32 for name in exact)
    apart, ours_off, theirs_off = distance(ours, theirs), distance(ours, exact), distance(theirs, exact)
    # Roundings that had nothing to do with each other would put them sqrt(2) apart.
    assert apart < 1.1 * min(ours_off, theirs_off) and 0.8 < ours_off / theirs_off < 1.25
    unrounded = distance(gradients(WINGS[0], model, "float32", **changes), exact)
    assert unrounded < 0.01 * ours_off  # what makes the difference is the rounding


def losses(wing, model, train, nudge=None):
    params = {name: (0.3 * value).astype(np.float32) for name, value in random_params(model).items()}
    if nudge is not None:
        unit = 2.0 ** (-8 if train.dtype == "bfloat16" else -11)
        rng = np.random.default_rng(nudge)
        params = {name: (value * (1 + unit * rng.uniform(-1, 1, value.shape))).astype(np.float32) for name, value in params.items()}
    params, step = wing.array(params), wing.module("training.step").train_step
    states, found = wing.module("training.optimizer").init_states(params, train), []
    for number, (inputs, targets) in enumerate(batches()):
        metrics, params, states = step(params, states, wing.array(inputs), wing.array(targets), model, train, number)
        found.append(float(metrics["loss"]))
    return np.array(found)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("model", [MODEL, MODERN], ids=["classic", "modern"])
def test_losses_in_16_bits_follow_torch(model, dtype):
    """30 steps. How far two right runs may part is measured: weights nudged by one roundoff at the start, four times."""
    train = dataclasses.replace(TRAIN, dtype=dtype)
    ours, theirs = (losses(wing, model, train) for wing in WINGS)
    spread = np.max([np.abs(losses(WINGS[0], model, train, nudge) - ours) for nudge in range(4)], axis=0)
    budget = 4 * np.maximum.accumulate(spread)
    assert (np.abs(ours - theirs) <= budget).all()
    assert budget[-1] < 0.2 * (ours[0] - ours[-1]) and ours[-1] < ours[0] - 0.1
