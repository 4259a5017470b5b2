"""Concept models beyond the agreement of both sides: what schedules, samplers and quantisers promise; training; whole texts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.errors import UserError
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)


# -- noise --------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("steps", [2, 10, 100, 1000])
def test_levels_are_those_of_the_cosine_and_end_in_noise_alone(wing, steps):
    levels = wing.call("concepts.noise_schedule", "cosine_levels", steps)
    t = np.arange(1, steps + 1) / steps
    wanted = (np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2
    np.testing.assert_allclose(levels[:-1], wanted[:-1], rtol=1e-9)
    assert levels[-1] == pytest.approx(levels[-2] / 1000)
    bent = wing.call("concepts.noise_schedule", "zero_terminal_snr", levels)
    assert bent[-1] == 0 and bent[0] == pytest.approx(levels[0]) and (np.diff(bent) < 0).all()


@both
def test_samplers_begin_at_the_last_step(wing):
    """The example of arXiv:2305.08891, table 2: 10 of 1000 steps."""

    def steps(*args):
        return wing.call("concepts.noise_schedule", "trailing_steps", *args).tolist()

    assert steps(1000, 10) == list(range(999, 0, -100))
    assert steps(5, 5) == [4, 3, 2, 1, 0] and steps(7, 1) == [6]
    for found in (steps(100, 40), steps(100, 7)):
        assert found[0] == 99 and len(set(found)) == len(found) and found == sorted(found, reverse=True)


@both
@given(seed=st.integers(0, 2**32 - 1), end=st.sampled_from([0.7, 0.99, 1.0]))
def test_steps_toward_the_same_vector_add_up(wing, seed, end):
    """As long as the model says the same, two steps are one; the last one arrives."""
    rng = np.random.default_rng(seed)
    x, clean = rng.standard_normal((2, 3, 5))
    between = rng.uniform(0, end)

    def step(x, *levels):
        return wing.call("concepts.ddim", "ddim_step", x, clean, *levels)

    direct = step(x, 0.0, end)
    np.testing.assert_allclose(step(step(x, 0.0, between), between, end), direct, rtol=1e-7, atol=1e-9)
    if end == 1:
        np.testing.assert_allclose(direct, clean, rtol=1e-12, atol=1e-14)


@both
def test_the_sampler_turns_noise_into_the_data(wing):
    """For normal data of deviation s the best denoiser is known; then noise must come out s times as large."""
    levels = wing.call("concepts.noise_schedule", "cosine_levels", 1000)
    levels = [*wing.call("concepts.noise_schedule", "zero_terminal_snr", levels)[::-1], 1.0]
    x = start = np.linspace(-2, 2, 9)[None]
    s = 0.3
    for level, following in zip(levels, levels[1:], strict=False):
        clean = np.sqrt(level) * s**2 / (level * s**2 + 1 - level) * x
        x = wing.call("concepts.ddim", "ddim_step", x, clean, float(level), float(following))
    np.testing.assert_allclose(x, s * start, rtol=0.02)


@both
def test_guidance_goes_from_one_prediction_through_the_other(wing):
    rng = np.random.default_rng(0)
    c, u = rng.standard_normal((2, 4, 6))

    def guided(*args):
        return wing.call("concepts.ddim", "guided", c, u, *args)

    np.testing.assert_allclose(guided(1.0), c, rtol=1e-12)
    np.testing.assert_allclose(guided(0.0), u, rtol=1e-12)
    np.testing.assert_allclose(guided(3.0) - c, 2 * (c - u), rtol=1e-9)
    np.testing.assert_allclose(guided(3.0, 1.0).std(-1), c.std(-1), rtol=1e-12)
    flat = wing.call("concepts.ddim", "guided", np.ones((1, 3)), np.ones((1, 3)), 2.0, 0.7)
    assert (flat == 1).all()  # no spread: nothing to bring back


# -- features -----------------------------------------------------------------------------------------------------


@both
def test_the_normaliser_is_robust(wing):
    """Normal features come out standard, whatever their place and size; one wild sentence changes little."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20001, 3)) * np.array([0.02, 1.0, 50.0]) + np.array([3.0, 0.0, -20.0])
    fitted = wing.call("concepts.normaliser", "fit_normaliser", x)
    y = wing.call("concepts.normaliser", "normalise", x, fitted)
    np.testing.assert_allclose(y.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(y.std(0), 1, atol=0.05)
    np.testing.assert_allclose(wing.call("concepts.normaliser", "denormalise", y, fitted), x, rtol=1e-12, atol=1e-12)
    x[0] = 1e9
    wild = wing.call("concepts.normaliser", "fit_normaliser", x)
    for name, value in fitted.items():
        np.testing.assert_allclose(wild[name], value, rtol=0.01, atol=0.01)


@both
def test_an_even_step_has_the_features_of_the_paper(wing):
    dtype = wing.float64
    y = wing.call("concepts.adaln", "time_features", np.array([0, 3]), 4, dtype)
    wanted = [[1, 1, 0, 0], [np.cos(3), np.cos(0.03), np.sin(3), np.sin(0.03)]]
    np.testing.assert_allclose(y, wanted, atol=1e-12)


# -- codes --------------------------------------------------------------------------------------------------------


@both
def test_more_codebooks_come_nearer(wing):
    rng = np.random.default_rng(2)
    x, starts = rng.standard_normal((200, 6)), rng.integers(0, 200, (4, 8))
    codebooks = wing.call("concepts.residual_quantiser", "fit_codebooks", x, starts)
    codes = wing.call("concepts.residual_quantiser", "quantise", x, codebooks)
    sums = wing.call("concepts.residual_quantiser", "partial_sums", codes, codebooks)
    errors = ((sums - x[:, None]) ** 2).sum(-1).mean(0)
    assert (np.diff(errors) < 0).all() and (sums[:, 0] == 0).all()
    first = codebooks[0][codes[:, 0]]
    np.testing.assert_allclose(sums[:, 1], first)
    for k in range(8):  # Lloyd's fixed point, nearly: entries are the means of what they stand for
        if (codes[:, 0] == k).any():
            np.testing.assert_allclose(codebooks[0, k], x[codes[:, 0] == k].mean(0), atol=0.2)


@both
def test_each_iteration_of_k_means_is_no_worse(wing):
    rng = np.random.default_rng(3)
    x, starts = rng.standard_normal((100, 3)), rng.integers(0, 100, (1, 7))
    errors = []
    for iterations in range(6):
        codebooks = wing.call("concepts.residual_quantiser", "fit_codebooks", x, starts, iterations)
        codes = wing.call("concepts.residual_quantiser", "quantise", x, codebooks)
        errors.append(((x - codebooks[0][codes[:, 0]]) ** 2).sum())
    assert all(later <= earlier + 1e-9 for earlier, later in zip(errors, errors[1:], strict=False))


def test_straight_through():
    """Forward the quantised vector to the last bit, backward as if nothing had been quantised; the same on both sides."""
    rng = np.random.default_rng(4)
    x, quantised, dy = rng.standard_normal((3, 4, 5))
    y, vjp = WINGS[0].module("concepts.residual_quantiser").straight_through(x, quantised)
    assert np.array_equal(y, quantised) and np.array_equal(vjp(dy), dy) and not np.shares_memory(vjp(dy), dy)
    leaf = torch.from_numpy(x).requires_grad_()
    codebook = torch.from_numpy(quantised).requires_grad_()
    found = WINGS[1].module("concepts.residual_quantiser").straight_through(leaf, codebook)
    assert np.array_equal(found.detach().numpy(), quantised)
    dx, dcodebook = torch.autograd.grad(found, [leaf, codebook], torch.from_numpy(dy), allow_unused=True)
    assert np.array_equal(dx.numpy(), dy) and dcodebook is None


# -- bad input ----------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("module, name, arguments, words", [
    ("noise_schedule", "cosine_levels", (1,), "give at least 2"),
    ("noise_schedule", "trailing_steps", (10, 11), "give 1 to 10"),
    ("noise_schedule", "trailing_steps", (10, 0), "give 1 to 10"),
    ("adaln", "time_features", (np.zeros(1), 3, None), "even width"),
    ("normaliser", "fit_normaliser", (np.zeros((0, 3)),), "at least one"),
    ("residual_quantiser", "fit_codebooks", (np.zeros((3, 2)), np.array([[3]])), "starts"),
])  # fmt: skip
def test_what_cannot_be_is_one_clear_line(wing, module, name, arguments, words):
    with pytest.raises(UserError, match=words) as error:
        wing.call(f"concepts.{module}", name, *arguments)
    assert "\n" not in str(error.value)
