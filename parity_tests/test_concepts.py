"""Concept models beyond the agreement of both sides: what schedules, samplers and quantisers promise; training; whole texts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.concepts import commands, experiment, judge, report
from numpy_ref.concepts.config import (
    END,
    KINDS,
    AutoencoderConfig,
    ConceptConfig,
    denoiser_block_shapes,
    parameter_count,
    parameter_shapes,
)
from numpy_ref.concepts.sentences import split_sentences, to_text, to_tokens
from numpy_ref.concepts.settings import ExperimentConfig
from numpy_ref.concepts.stories import CHOICES, SENTENCES, draw_stories, judged, successors
from numpy_ref.concepts.texts import read_text
from numpy_ref.config import TrainConfig
from numpy_ref.errors import UserError
from parity_tests.components.block import random_parameters
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
def test_fresh_noise_keeps_as_much_noise(wing):
    """With eta the noise is another, not more: its variance stays 1 - next; all of it is new at the first step with eta = 1."""
    rng = np.random.default_rng(0)
    clean, old, fresh = rng.standard_normal((3, 20000, 1))
    for level, following, eta in ((0.0, 0.3, 1.0), (0.3, 0.6, 1.0), (0.3, 0.6, 0.5), (0.9, 0.99, 1.0), (0.6, 0.6, 1.0), (0.9, 1.0, 1.0)):
        x = np.sqrt(level) * clean + np.sqrt(1 - level) * old
        y = wing.call("concepts.ddim", "ddim_step", x, clean, level, following, 1.0, eta, fresh)
        noise = y - np.sqrt(following) * clean
        assert np.var(noise) == pytest.approx(1 - following, abs=0.02)
        if level == 0:
            np.testing.assert_allclose(noise, np.sqrt(1 - following) * fresh, rtol=1e-9)
    betas = 1 - 0.3 / 0.6  # DDPM: variance (1 - level_{t-1}) / (1 - level_t) beta_t of what is new (arXiv:2006.11239, eq. 7)
    x = np.sqrt(0.3) * clean + np.sqrt(0.7) * old
    new, none = (wing.call("concepts.ddim", "ddim_step", x, clean, 0.3, 0.6, 1.0, 1.0, z) for z in (np.ones_like(fresh), 0 * fresh))
    np.testing.assert_allclose((new - none) ** 2, 0.4 / 0.7 * betas, rtol=1e-9)
    mean = np.sqrt(0.6) * betas / 0.7 * clean + np.sqrt(1 - betas) * 0.4 / 0.7 * x
    np.testing.assert_allclose(none, mean, rtol=1e-9, atol=1e-12)


def test_steps_of_noise_are_there_whatever_is_drawn():
    """The largest uniform number below 1, too, whose square distance from 1 is lost in rounding."""
    for lean in (1.0, 2.0, 5.0):
        config = small("diffusion", lean=lean)
        steps = experiment.noise_steps(np.array([0.0, 0.5, 1 - 2.0**-53]), config)
        assert steps.dtype == np.int64 and steps[0] == 0 and steps[-1] == config.steps - 1


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


# -- models -------------------------------------------------------------------------------------------------------

AUTOENCODER = AutoencoderConfig(length=8, width=8, heads=2, layers=1, concept=4, noise=0.1)
every = pytest.mark.parametrize("kind", KINDS)


def small(kind, **more):
    options = {"concept": 4, "context": 6, "width": 8, "heads": 2, "layers": 1, "denoiser_layers": 1, "samples": 4, "steps": 10}
    return ConceptConfig(kind=kind, **options | {"codebooks": 2, "entries": 3} | more)


def random_params(config, seed=0):
    return random_parameters(np.random.default_rng(seed), parameter_shapes(config))


def sentences(rng, *shape):
    """Bytes and END behind them, up to AUTOENCODER.length of them; (tokens, lengths)."""
    lengths = rng.integers(1, AUTOENCODER.length + 1, shape)
    tokens = rng.integers(97, 100, (*shape, AUTOENCODER.length + 1))
    tokens[np.arange(AUTOENCODER.length + 1) >= lengths[..., None]] = END
    return tokens, lengths


def story(kind, seed=0):
    """(batch, frozen) of a kind, for three stories of five sentences."""
    rng = np.random.default_rng(seed)
    batch, frozen, shape = {"concepts": rng.standard_normal((3, 5, 4))}, None, (3, 4)
    if kind == "decoder":
        batch["tokens"], batch["lengths"] = sentences(rng, *shape)
        normaliser = {"center": rng.standard_normal(4), "scale": rng.uniform(0.5, 2, 4)}
        frozen = random_params(AUTOENCODER), AUTOENCODER, normaliser
    if kind == "diffusion":
        batch |= {"noise": rng.standard_normal((*shape, 4)), "times": rng.integers(0, 10, shape), "keep": rng.random(shape) < 0.8}
    if kind in ("quantised", "residual"):
        frozen = rng.standard_normal((2, 3, 4))
    return batch, frozen


@both
def test_no_concept_depends_on_what_follows(wing):
    config, rng = small("base"), np.random.default_rng(5)
    params, x = random_params(config), rng.standard_normal((1, 6, 4))
    whole = wing.call("concepts.base_lcm", "base_lcm", x, params, config)
    other = x.copy()
    other[:, 3:] = rng.standard_normal((1, 3, 4))
    changed = wing.call("concepts.base_lcm", "base_lcm", other, params, config)
    np.testing.assert_allclose(changed[:, :3], whole[:, :3], rtol=1e-12, atol=1e-12)
    assert np.abs(changed[:, 3:] - whole[:, 3:]).min() > 0


@both
def test_the_denoiser_sees_the_context_up_to_its_place_and_none_where_it_was_dropped(wing):
    config, rng = small("diffusion", denoiser_layers=2), np.random.default_rng(6)
    params, context, noisy = random_params(config), rng.standard_normal((1, 5, 8)), rng.standard_normal((1, 5, 4))
    times, keep = rng.integers(0, 10, (1, 5)), np.array([[True, True, False, True, True]])
    mask = wing.call("concepts.two_tower", "tower_mask", keep)

    def denoised(context):
        return wing.call("concepts.two_tower", "denoise", noisy, times, context, mask, params, config)

    whole = denoised(context)
    assert np.isfinite(whole).all()  # a place without a context still sees the row of zeros
    for changed in range(5):
        other = context.copy()
        other[:, changed] += 1
        differs = np.abs(denoised(other) - whole).max(-1)[0] > 1e-9
        assert differs.tolist() == [t >= changed and bool(keep[0, t]) for t in range(5)]


@both
def test_noisy_concepts_do_not_see_each_other(wing):
    """They are the answers: of all the noisy vectors a place may read its own alone."""
    config, rng = small("diffusion", denoiser_layers=2), np.random.default_rng(12)
    params, context, noisy = random_params(config), rng.standard_normal((1, 5, 8)), rng.standard_normal((1, 5, 4))
    times, mask = rng.integers(0, 10, (1, 5)), wing.call("concepts.two_tower", "tower_mask", np.ones((1, 5), bool))
    whole = wing.call("concepts.two_tower", "denoise", noisy, times, context, mask, params, config)
    for changed in range(5):
        other = noisy.copy()
        other[:, changed] += 1
        found = wing.call("concepts.two_tower", "denoise", other, times, context, mask, params, config)
        assert (np.abs(found - whole).max(-1)[0] > 1e-9).tolist() == [t == changed for t in range(5)]


@both
def test_every_prefix_alone_gives_what_training_gave_it(wing):
    """Training denoises all places at once; sampling asks for the last place of a prefix. Both must stand at the same places."""
    config, rng = small("diffusion", denoiser_layers=2), np.random.default_rng(13)
    params, x, noisy = random_params(config), rng.standard_normal((2, 5, 4)), rng.standard_normal((2, 5, 4))
    times = rng.integers(0, 10, (2, 5))

    def denoised(x, noisy, times, keep):
        context = wing.call("concepts.base_lcm", "contextualise", x, params, config)
        mask = wing.call("concepts.two_tower", "tower_mask", np.full(x.shape[:2], keep))[:, :, -noisy.shape[1] :]
        return wing.call("concepts.two_tower", "denoise", noisy, times, context, mask, params, config)

    for keep in (True, False):
        whole = denoised(x, noisy, times, keep)
        for t in range(5):
            alone = denoised(x[:, : t + 1], noisy[:, t : t + 1], times[:, t : t + 1], keep)
            np.testing.assert_allclose(alone[:, 0], whole[:, t], rtol=1e-9, atol=1e-10)


@both
@pytest.mark.parametrize("kind", ["quantised", "residual"])
def test_a_code_is_predicted_from_those_before_it(wing, kind):
    """Codebook j hears the codes before j of its own sentence, and the sentences before: nothing else."""
    config, rng = small(kind, codebooks=3), np.random.default_rng(14)
    params, codebooks, codes = random_params(config), rng.standard_normal((3, 3, 4)), rng.integers(0, 3, (1, 5, 3))
    x = rng.standard_normal((1, 5, 4))

    def scores(x, codes):
        partial = wing.call("concepts.residual_quantiser", "partial_sums", codes, codebooks)[..., :-1, :]
        context = wing.call("concepts.base_lcm", "contextualise", x, params, config)
        return wing.call("concepts.quant_lcm", "code_logits", context, partial, params, config)

    whole = scores(x, codes)
    for t, j in ((1, 0), (3, 1), (4, 2)):
        other = codes.copy()
        other[0, t, j] = (other[0, t, j] + 1) % 3
        moved = np.abs(scores(x, other) - whole).max(-1)[0] > 1e-9
        assert moved.tolist() == [[place == t and book > j for book in range(3)] for place in range(5)]
    later = x.copy()
    later[:, 3:] += 1
    moved = np.abs(scores(later, codes) - whole).max((-1, -2))[0] > 1e-9
    assert moved.tolist() == [False] * 3 + [True] * 2


@both
def test_the_decoder_reads_the_bytes_before(wing):
    """The scores of a byte depend on the concept and on what was said, not on the byte itself nor on what follows."""
    rng = np.random.default_rng(15)
    params, z, (tokens, _) = random_params(AUTOENCODER), rng.standard_normal((1, 4)), sentences(rng, 1)
    whole = wing.call("concepts.autoencoder", "decode_logits", z, tokens, params, AUTOENCODER)
    for t in range(tokens.shape[1]):
        other = tokens.copy()
        other[:, t] = 7
        moved = np.abs(wing.call("concepts.autoencoder", "decode_logits", z, other, params, AUTOENCODER) - whole).max(-1)[0] > 1e-9
        assert moved.tolist() == [place > t for place in range(tokens.shape[1])]
    shifted = wing.call("concepts.autoencoder", "decode_logits", z + 1, tokens, params, AUTOENCODER)
    assert (np.abs(shifted - whole).max(-1) > 1e-9).all()


@both
def test_padding_behind_a_sentence_is_not_read(wing):
    rng = np.random.default_rng(7)
    params = random_params(AUTOENCODER)
    tokens, lengths = sentences(rng, 4)
    tokens = tokens[:, :-1]
    z = wing.call("concepts.autoencoder", "encode_sentences", tokens, lengths, params, AUTOENCODER)
    np.testing.assert_allclose((z**2).mean(-1), 1, rtol=1e-3)
    for row, length in enumerate(lengths):
        alone = wing.call("concepts.autoencoder", "encode_sentences", tokens[row : row + 1, :length], lengths[row : row + 1], params, AUTOENCODER)
        np.testing.assert_allclose(alone[0], z[row], rtol=1e-9, atol=1e-9)
    other = np.where(tokens == END, 3, tokens)
    found = wing.call("concepts.autoencoder", "encode_sentences", other, lengths, params, AUTOENCODER)
    np.testing.assert_allclose(found, z, rtol=1e-9, atol=1e-9)


def test_a_new_denoiser_is_the_identity_and_its_gates_learn_first():
    """AdaLN-zero: of the modulation nothing but the gates has a gradient at the first step, and nothing of the branches."""
    config, rng = small("diffusion"), np.random.default_rng(8)
    params = random_parameters(rng, denoiser_block_shapes(config))
    params |= {name: np.zeros_like(params[name]) for name in ("modulation.weight", "modulation.bias")}
    x, step, memory = rng.standard_normal((1, 3, 8)), rng.standard_normal((1, 3, 8)), rng.standard_normal((1, 4, 8))
    mask = WINGS[0].module("concepts.two_tower").tower_mask(np.ones((1, 3), bool))
    y, vjp = WINGS[0].module("concepts.two_tower").denoiser_block(x, step, memory, mask, params, config)
    assert np.array_equal(y, x)
    grads = vjp(rng.standard_normal(y.shape))[3]
    moved = {name for name, grad in grads.items() if grad.any()}
    assert moved == {"modulation.weight", "modulation.bias"}
    parts = grads["modulation.bias"].reshape(6, 8)
    assert [bool(part.any()) for part in parts] == [False, False, True, False, False, True]
    for wing in WINGS:
        fresh = wing.module("concepts.initialise").initialise(config, 0, wing.float64)
        assert not np.asarray(fresh["denoiser.0.modulation.weight"]).any()


@every
def test_gradients_of_a_step_are_the_same(kind):
    config, (batch, frozen) = small(kind), story(kind)
    params, found = random_params(config), []
    for wing in WINGS:
        step = wing.module("concepts.step")
        loss, grads = step.loss_and_grads(wing.array(params), wing.array(batch), config, wing.array(frozen))
        found.append((float(loss), {name: np.asarray(grad) for name, grad in grads.items()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    for name, grad in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], grad, rtol=1e-8, atol=1e-11, err_msg=name)


@both
@every
def test_the_last_concept_is_a_target_and_nothing_else(wing, kind):
    """A model that saw what it predicts would train well and know nothing. As a target alone it enters a squared distance as
    a square: the second difference along d is 2 |d|^2 a place. Scores of codes do not hear of it while its codes stay; those of
    its bytes not at all."""
    config, (batch, frozen) = small(kind), story(kind, 16)
    params, d = random_params(config), 1e-3 * np.random.default_rng(17).standard_normal((3, 4))
    if kind == "diffusion":  # at the last step the noisy vector is noise alone
        batch["times"][:] = config.steps - 1
        batch["keep"][:] = True

    def loss(change):
        moved = batch["concepts"].copy()
        moved[:, -1] += change
        own = wing.array(batch | {"concepts": moved})
        return float(wing.module("concepts.step").loss_and_grads(wing.array(params), own, config, wing.array(frozen))[0])

    bend = loss(d) + loss(-d) - 2 * loss(0)
    wanted = 0.0 if kind in ("decoder", "quantised") else 2 * (d**2).sum() / 12  # of 3 stories with 4 places
    assert bend == pytest.approx(wanted, rel=1e-4, abs=1e-13 * abs(loss(0)) + 1e-14)
    assert (loss(d) == loss(0)) == (wanted == 0)
    earlier = batch["concepts"].copy()
    earlier[:, 0] += 0.1
    assert float(wing.module("concepts.step").loss_and_grads(
        wing.array(params), wing.array(batch | {"concepts": earlier}), config, wing.array(frozen))[0]) != loss(0)  # fmt: skip


@every
def test_both_sides_train_to_the_same_weights(kind):
    """Eight steps in float64 from the same seed; the loss falls."""
    config, train, (batch, frozen) = small(kind), TrainConfig(weight_decay=0.1, clip=1.0), story(kind)
    ends, heard = [], []
    for wing in WINGS:
        step, own, kept = wing.module("concepts.step"), wing.array(batch), wing.array(frozen)
        params = wing.module("concepts.initialise").initialise(config, 3, wing.float64)
        states = wing.module("training.optimizer").init_states(params, train)
        losses = []
        for _ in range(8):
            loss, grads = step.loss_and_grads(params, own, config, kept)
            _, params, states = step.descend(params, grads, states, 0.01, train)
            losses.append(float(loss))
        assert losses[-1] < losses[0]
        ends.append({name: np.asarray(value) for name, value in params.items()})
        heard.append(losses)
    np.testing.assert_allclose(heard[0], heard[1], rtol=1e-9)
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-6, atol=1e-8, err_msg=name)


def test_the_auto_encoder_learns_alike_and_reads_back_what_it_learnt():
    """Both sides in float64 for a few steps; then the fast side goes on until it says every sentence from its concept."""
    rng = np.random.default_rng(9)
    texts = [b"a cat", b"the dog", b"a", b"two cats"]
    tokens, lengths = np.full((4, 9), END), np.array([len(text) for text in texts])
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = list(text)
    noise, train, ends = rng.standard_normal((300, 4, 4)), TrainConfig(clip=1.0, weight_decay=0.0), []
    config = AutoencoderConfig(length=8, width=16, heads=2, layers=1, concept=4, noise=0.05)
    for wing, steps in zip(WINGS, (5, 300), strict=True):
        step = wing.module("concepts.step")
        params = wing.module("concepts.initialise").initialise(config, 1, wing.float64)
        states = wing.module("training.optimizer").init_states(params, train)
        for i in range(steps):
            data = [wing.array(part) for part in (tokens, lengths, noise[i])]
            _, grads = step.autoencoder_loss_and_grads(params, *data, config)
            _, params, states = step.descend(params, grads, states, 0.01, train)
            if i == 4:
                ends.append({name: np.asarray(value).copy() for name, value in params.items()})
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-6, atol=1e-8, err_msg=name)
    learnt = {name: value.numpy() for name, value in params.items()}
    for wing in WINGS:
        z = wing.call("concepts.autoencoder", "encode_sentences", tokens[:, :-1], lengths, learnt, config)
        assert np.array_equal(wing.call("concepts.speak", "decode_sentences", z, learnt, config), tokens)


@every
@pytest.mark.parametrize("guidance, eta", [(1.0, 0.0), (2.0, 0.0), (2.0, 0.5)])
def test_both_sides_say_the_same_next(kind, guidance, eta):
    """A concept and, by the same decoder, a sentence: from the same draws the same on both sides."""
    config, rng = small(kind, guidance=guidance, eta=eta), np.random.default_rng(10)
    params, x, codebooks = random_params(config), rng.standard_normal((5, 4, 4)), rng.standard_normal((2, 3, 4))
    draws = judge.draws_for(config, 10, 0, 5)
    found = [wing.call("concepts.speak", "next_concept", x, params, config, draws, codebooks) for wing in WINGS]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-7, atol=1e-9)
    said = [wing.call("concepts.speak", "decode_sentences", found[0], random_params(AUTOENCODER), AUTOENCODER) for wing in WINGS]
    assert np.array_equal(*said) and said[0].shape == (5, 9) and (said[0][:, -1] == END).all()
    if kind in ("quantised", "residual"):  # a sum of entries, one of each codebook
        sums = (codebooks[0][:, None] + codebooks[1]).reshape(-1, 4)
        assert all(np.abs(sums - y).sum(1).min() < 1e-12 for y in found[0])


def test_keys_that_are_kept_are_those_of_every_step():
    """The sampler's short cut: keys and values once, one modulation for all rows; the predictions stay what they are."""
    config, rng, wing = small("diffusion", denoiser_layers=2), np.random.default_rng(11), WINGS[1]
    towers, params = wing.module("concepts.two_tower"), wing.array(random_params(config))
    noisy, context = (wing.array(rng.standard_normal(shape)) for shape in ((3, 1, 4), (3, 4, config.width)))
    mask = towers.tower_mask(wing.array(np.array([[True] * 4, [False] * 4, [True] * 4])))[:, :, -1:]
    plain = towers.denoise(noisy, wing.array(np.full((3, 1), 2)), context, mask, params, config)
    known = towers.memory_keys(context, params, config)
    kept = towers.denoise(noisy, wing.array(np.full((1, 1), 2)), context, mask, params, config, known)
    np.testing.assert_allclose(kept.numpy(), plain.numpy(), rtol=1e-12, atol=1e-13)


# -- stories, and what is said after them -------------------------------------------------------------------------


@both
def test_ridge_is_least_squares_with_rows_for_the_penalty(wing):
    rng = np.random.default_rng(11)
    features, targets = rng.standard_normal((50, 7)), rng.standard_normal((50, 3))
    wanted = np.linalg.lstsq(np.vstack([features, np.sqrt(0.3) * np.eye(7)]), np.vstack([targets, np.zeros((7, 3))]))[0]
    np.testing.assert_allclose(wing.call("concepts.baselines", "fit_ridge", features, targets, 0.3), wanted, rtol=1e-9, atol=1e-12)


@both
def test_data_is_placed_in_the_format_of_the_run(wing):
    step, array = wing.module("concepts.step"), np.zeros(2)
    found = step.placed({"a": (array, np.arange(2)), "b": None}, "cpu", wing.float32)
    assert found["a"][0].dtype == wing.float32 and "int64" in str(found["a"][1].dtype) and found["b"] is None


def test_stories_follow_their_grammar():
    follow, stories = successors(3), draw_stories(3, 0, 400, 10)
    assert all(len(set(row)) == CHOICES for row in follow.reshape(-1, CHOICES).tolist())
    assert (np.bincount(follow[:, 0].ravel(), minlength=64) == CHOICES).all()
    right = judged(stories[:, -1], stories[:, :-1], 3)
    assert right["valid"].all() and right["information"].mean() == pytest.approx(np.log(16 * 0.95 + 0.05))
    others = judged(np.full(400, -1), stories[:, :-1], 3)  # no sentence at all
    assert not others["valid"].any() and others["information"].mean() == pytest.approx(np.log(0.05))
    chance = judged(draw_stories(4, 0, 400, 3)[:, 0], stories[:, :-1], 3)
    assert chance["valid"].mean() < 0.15
    assert np.array_equal(draw_stories(3, 100, 5, 10), stories[100:105])  # a story is a function of its number
    assert len(np.unique(stories)) == len(SENTENCES)


@given(st.lists(st.text(st.characters(exclude_characters=".!?", exclude_categories=["Z", "C"]), min_size=1, max_size=8), min_size=1, max_size=4))
def test_sentences_come_back(words):
    sentences_ = [word + "." for word in words]
    assert split_sentences(" ".join(sentences_)) == sentences_
    tokens, lengths = to_tokens(sentences_, 99)
    assert to_text(tokens) == sentences_ and (tokens[np.arange(len(words)), lengths] == END).all()


def write_text(folder, count=60, end=""):
    """A file of ``count`` short sentences, one of them too long for 20 bytes."""
    names = ["Ann", "Bob", "Cid", "Dan", "Eve"]
    lines = [f"{names[n % 5]} saw {names[n * n % 5]} at {n}." for n in range(count)]
    lines[7] = "A sentence that is far too long for it."
    path = folder / "text.txt"
    path.write_text("\n".join(lines) + end)
    return path


def test_stories_of_a_text_worked_by_hand(tmp_path):
    """Rows of three sentences: a long one breaks them, the last tenth is held out, and none to learn from reaches into it."""
    text = read_text(write_text(tmp_path), 20, 3)
    rows = [list(range(n, n + 3)) for n in (*range(5), *range(8, 58))]
    said = [[int(text.sentences[i].split()[-1][:-1]) for i in row] for row in text.stories_]
    judged_rows = [[int(text.sentences[i].split()[-1][:-1]) for i in row] for row in text.held]
    assert judged_rows == rows[50:] and said == rows[:48] and text.long == 1
    assert max(said[-1]) < min(judged_rows[0]) and text.stories_.max() + 1 == text.learnt == 52
    assert sorted({place for row in text.stories_ for place in row}) == list(range(text.learnt))
    assert np.array_equal(text.held_out(3), text.held[[0, 2, 4]]) and len(text.held_out(99)) == 5
    drawn = text.stories(1000, 400)
    assert np.array_equal(text.stories(1100, 7), drawn[100:107]) and len(np.unique(drawn[:, 0])) == 48
    assert not np.array_equal(replace(text, seed=1).stories(1000, 400), drawn)
    assert read_text(write_text(tmp_path, end="  It\n goes \t on.  "), 20, 3).sentences[-1] == "It goes on."


def test_both_sides_learn_from_a_text(tmp_path):
    """In float64 the same results; nothing is said about validity, which nobody knows; a changed text is refused."""
    options, rows = {"data": str(write_text(tmp_path)), "length": 20, "sentences": 4, "autoencoder_batch": 16}, []
    for wing in WINGS:
        rows.append(experiment_of(wing, tmp_path / str(wing), dtype=wing.float64, **options))
    for one, other in zip(*rows, strict=True):
        assert "valid" not in one and one["stories"] == 5 and one["said"] == other["said"]
        for name in ("l2", "l2_read", "top1", "contrastive"):
            assert one[name] == pytest.approx(other[name], rel=1e-6, abs=1e-6), (one["model"], name)
    write_text(tmp_path, 59)
    (tmp_path / "torch_impl" / experiment.RESULTS).unlink()
    with pytest.raises(UserError, match="has changed"):
        experiment_of(WINGS[1], tmp_path / "torch_impl", dtype=WINGS[1].float64, **options)


def test_texts_that_cannot_be_are_one_clear_line(tmp_path):
    for most, length, words in ((20, 30, "rows of 30 sentences"), (5, 4, "60 are longer")):
        with pytest.raises(UserError, match=words) as error:
            read_text(write_text(tmp_path), most, length)
        assert "\n" not in str(error.value)
    for function, arguments, words in (
        (split_sentences, (" \n ",), "empty"), (to_tokens, (["far too long"], 5), "12 bytes"), (to_tokens, ([""], 5), "empty"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            function(*arguments)


def test_parameters_are_counted():
    for config in (AUTOENCODER, *map(small, KINDS)):
        assert parameter_count(config) == sum(value.size for value in random_params(config).values())


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


@pytest.mark.parametrize("kind, options, words", [
    (ConceptConfig, {"kind": "words"}, "kind='words'"),
    (ConceptConfig, {"width": 10, "heads": 4}, "10 features"),
    (ConceptConfig, {"samples": 101}, "samples=101"),
    (ConceptConfig, {"steps": 1, "samples": 1}, "steps=1"),
    (ConceptConfig, {"drop": 1.5}, "drop=1.5"),
    (ConceptConfig, {"eta": 1.1}, "eta=1.1"),
    (ConceptConfig, {"temperature": 0.0}, "temperature=0.0"),
    (AutoencoderConfig, {"length": 0}, "length=0"),
    (AutoencoderConfig, {"noise": float("nan")}, "noise"),
])  # fmt: skip
def test_settings_that_cannot_be_are_one_clear_line(kind, options, words):
    with pytest.raises(UserError) as error:
        kind(**options)
    assert words in str(error.value) and "\n" not in str(error.value)


# -- the experiment -----------------------------------------------------------------------------------------------

TINY = {
    "steps": 3, "diffusion_steps": 3, "batch": 4, "sentences": 5, "width": 8, "layers": 1, "concept": 4, "autoencoder_steps": 4, "autoencoder_width": 8,
    "noise_steps": 5, "samples": 2, "codebooks": 2, "entries": 3, "held_out": 6, "save_every": 2,
}  # fmt: skip


def experiment_of(wing, out, asked=lambda: None, dtype=None, **more):
    out.mkdir(exist_ok=True)
    functions = commands.functions(wing.module("__main__").WING) | {"dtype": dtype or wing.float32}
    return experiment.run(functions, ExperimentConfig(**TINY | more), out, "cpu", lambda *_: None, asked)


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_both_sides_run_the_same_experiment(tmp_path):
    """In float64: the same draws, losses and judgements; every model is judged once."""
    rows = [experiment_of(wing, tmp_path / str(wing), dtype=wing.float64) for wing in WINGS]
    assert [row["model"] for row in rows[0]] == [row["model"] for row in rows[1]]
    assert len(rows[0]) == 4 + len(KINDS) and rows[0][3]["model"] == "the sentence itself"
    for one, other in zip(*rows, strict=True):
        for name in ("l2", "l2_read", "valid", "information", "contrastive"):
            assert one[name] == pytest.approx(other[name], rel=1e-6, abs=1e-6), (one["model"], name)
    logs = [experiment.read_rows(tmp_path / str(wing) / experiment.LOG) for wing in WINGS]
    assert [row["part"] for row in logs[0]] == ["autoencoder", *KINDS]
    for one, other in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, steps):
    """Stopped in the auto-encoder, at the beginning of a model, or within one: the results are the same to the last bit."""
    whole = experiment_of(WINGS[1], tmp_path / "whole")
    left = iter([None] * (steps - 1) + ["time"])
    with pytest.raises(experiment.Stop):
        experiment_of(WINGS[1], tmp_path / "parts", lambda: next(left))
    assert without_seconds(experiment_of(WINGS[1], tmp_path / "parts")) == without_seconds(whole)
    assert without_seconds(experiment_of(WINGS[1], tmp_path / "parts")) == without_seconds(whole)  # nothing left to do


@both
def test_the_command_trains_reports_and_goes_on_with_stories(wing, tmp_path, capsys):
    out, main = str(tmp_path / "run"), wing.module("__main__").main
    flags = [part for name, value in TINY.items() for part in ("--" + name.replace("_", "-"), str(value))]
    assert main(["concepts", "--out", out, "--device", "cpu", *flags]) == 0
    assert "two-tower diffusion" in capsys.readouterr().out
    text = (tmp_path / "run" / report.REPORT).read_text()
    assert "one seed" in text and all(name in text for name in report.NAMES.values())
    assert all((tmp_path / "run" / name).stat().st_size > 1000 for name in (report.PICTURE, report.CURVES))
    for kind in KINDS:
        assert main(["story", "--run", out, "--model", kind, "--prompt", "The fox sings at dawn. A baker waits.", "--sentences", "2"]) == 0
    assert "is read as" in capsys.readouterr().err  # nothing has been learnt in so few steps
    assert main(["concepts", "--resume", "--out", out, "--device", "cpu"]) == 0
    text = str(write_text(tmp_path))
    capsys.readouterr()
    for arguments, words in (
        (["concepts", "--out", out], "already holds a run"),
        (["concepts", "--resume", "--out", out, "--width", "16"], "start a new run"),
        (["concepts", "--resume", "--out", str(tmp_path)], "holds no run"),
        (["concepts", "--out", str(tmp_path / "new"), "--sentences", "3"], "sentences=3"),
        (["concepts", "--out", str(tmp_path / "new"), "--samples", "200"], "samples=200"),
        (["concepts", "--out", str(tmp_path / "new"), "--data", str(tmp_path / "none")], "no file"),
        (["concepts", "--out", str(tmp_path / "new"), "--data", text, "--length", "3"], "larger --length"),
        (["concepts", "--out", str(tmp_path / "new"), "--length", "9"], "length=9 is too short"),
        (["story", "--run", out, "--prompt", " "], "empty"),
        (["story", "--run", out, "--prompt", "A sentence that is longer than the encoder can read at once."], "shorten"),
        (["story", "--run", out, "--prompt", "A fox.", "--sentences", "0"], "at least 1"),
        (["story", "--run", str(tmp_path), "--prompt", "A fox."], "holds no run"),
    ):
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "new").exists()


def test_the_command_learns_from_a_text_of_ones_own(tmp_path, capsys):
    main, out = WINGS[1].module("__main__").main, tmp_path / "own"
    options = TINY | {"data": write_text(tmp_path), "length": 20, "sentences": 4, "device": "cpu", "eta": 0.5}
    flags = [part for name, value in options.items() for part in ("--" + name.replace("_", "-"), str(value))]
    assert main(["concepts", "--out", str(out), *flags]) == 0
    assert "1 of more than 20 bytes left out" in (said := capsys.readouterr()).err and "valid" not in said.out
    assert "new to the auto-encoder" in (out / report.REPORT).read_text()
    assert main(["story", "--run", str(out), "--prompt", "Ann saw Bob at 1.", "--sentences", "1"]) == 0


def test_a_damaged_part_is_one_clear_line(tmp_path):
    experiment_of(WINGS[1], tmp_path / "run")
    for path in (tmp_path / "run").glob("base-0.npz"):
        path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / "run" / experiment.RESULTS).unlink()
    with pytest.raises(UserError, match="damaged"):
        experiment_of(WINGS[1], tmp_path / "run")
