"""Quantised models: what they lose, that both wings agree on it, and that no other loader mistakes them for floats."""

import numpy as np
import pytest

from numpy_ref import checkpoint_file
from numpy_ref.config import ModelConfig, SampleConfig, parameter_shapes
from numpy_ref.errors import UserError
from parity_tests.components.block import random_parameters
from parity_tests.trained import runs, wing  # noqa: F401  (fixtures)
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("side", WINGS, ids=str)
CONFIG = ModelConfig(
    vocab_size=16, context=12, layers=2, width=32, heads=4, kv_heads=2, feed_forward=64, positions="rope", norm="rms",
    activation="swiglu",
)  # fmt: skip


def quantised(side, params, bits, group=32):
    return side.module("model.quantization").quantize_params(side.array(params), CONFIG, bits, group)


@both
@pytest.mark.parametrize("bits", [8, 4])
def test_no_weight_is_off_by_more_than_half_a_step(side, bits):
    module = side.module("model.quantization")
    weight = np.random.default_rng(0).standard_normal((9, 64))
    quantized = module.quantize(side.array(weight), bits, 16)
    assert isinstance(quantized, module.Quantized) and tuple(quantized.shape) == (9, 64)
    step = np.asarray(quantized.scales)
    step = np.repeat(step, 16, axis=1) if bits == 4 else step[:, None]
    error = np.abs(np.asarray(module.dequantize(quantized, side.float64)) - weight)
    assert (error <= step * 0.5000001).all() and error.max() > 0.3 * step.max()


@pytest.mark.parametrize("bits", [8, 4])
def test_both_sides_generate_alike(bits):
    params = random_parameters(np.random.default_rng(1), parameter_shapes(CONFIG))
    sample, texts = SampleConfig(tokens=20, seed=3), []
    for side in WINGS:
        generate = side.module("inference.generate").generate
        texts.append(np.asarray(generate(quantised(side, params, bits), CONFIG, [side.array(np.array([1, 2]))], sample)[0]))
    np.testing.assert_array_equal(*texts)


@both
def test_more_bits_are_closer(side):
    """Logits of 8 bits, of 4 bits in small groups and of 4 bits in large ones, each further from the original's."""
    params = random_parameters(np.random.default_rng(2), parameter_shapes(CONFIG))
    tokens = side.array(np.arange(12)[None])
    transformer = side.module("model.transformer").transformer

    def logits(params):
        found = transformer(tokens, params, CONFIG)
        return np.asarray(found[0] if isinstance(found, tuple) else found)

    exact = logits(side.array(params))
    errors = [np.abs(logits(quantised(side, params, *how)) - exact).mean() for how in ((8,), (4, 8), (4, 32))]
    assert errors[0] < errors[1] < errors[2] and errors[0] > 0


@both
def test_impossible_bits_and_groups_are_refused(side):
    quantize = side.module("model.quantization").quantize
    weight = side.array(np.ones((4, 30)))
    with pytest.raises(UserError, match="bits=3"):
        quantize(weight, 3)
    for group in (32, 15, 0):
        with pytest.raises(UserError, match="group"):
            quantize(weight, 4, group)


@both
@pytest.mark.parametrize("bits", [8, 4])
def test_a_checkpoint_keeps_the_codes(side, runs, bits, tmp_path):  # noqa: F811
    checkpoint = side.module("training.checkpoint")
    run = checkpoint.load(runs[str(side)])
    run.params = side.module("model.quantization").quantize_params(run.params, run.model_config, bits, 16)
    run.states = {name: {} for name in run.params}
    checkpoint.save(tmp_path, run)
    for other in WINGS:
        again = other.module("training.checkpoint").load(tmp_path)
        for name, value in run.params.items():
            if checkpoint_file.is_quantized(value):
                found = again.params[name]
                assert (found.bits, found.group) == (value.bits, value.group)
                for part in checkpoint_file.PARTS:
                    if getattr(value, part) is not None:
                        np.testing.assert_array_equal(np.asarray(getattr(found, part)), np.asarray(getattr(value, part)))


def test_a_loader_of_floats_refuses_it(runs, tmp_path):  # noqa: F811
    side = WINGS[0]
    run = side.module("training.checkpoint").load(runs["numpy_ref"])
    run.params = side.module("model.quantization").quantize_params(run.params, run.model_config, 4, 16)
    run.states = {name: {} for name in run.params}
    side.module("training.checkpoint").save(tmp_path, run)
    with pytest.raises(UserError, match="4 bits"):
        checkpoint_file.unpack(*checkpoint_file.read(tmp_path), np.asarray)
    with pytest.raises(UserError, match="quantised"):
        checkpoint_file.check_resumable(run, run.model_config, run.train_config, tmp_path)
    arrays, header = checkpoint_file.read(tmp_path)
    name = next(name for name in arrays if name.endswith(".codes"))
    arrays[name] = arrays[name][:, :-1]
    checkpoint_file.write(tmp_path / "damaged.npz", arrays, header)
    with pytest.raises(UserError, match="damaged"):
        checkpoint_file.read(tmp_path / "damaged.npz")
