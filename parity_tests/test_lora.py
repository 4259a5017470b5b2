"""LoRA: adapters change nothing at first, learn what the merged matrices would, and go through files to the bit."""

import dataclasses

import numpy as np
import pytest
import torch

from numpy_ref import checkpoint_file
from numpy_ref.config import ModelConfig, TrainConfig, parameter_shapes
from numpy_ref.errors import UserError
from numpy_ref.sft import adapter_file, adapters
from numpy_ref.sft.adapters import LoRA
from parity_tests.test_properties import random_params
from parity_tests.test_step import assert_close, unequal_batch, unequal_weights
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
MODEL = ModelConfig(vocab_size=13, context=12, layers=2, width=8, heads=2, feed_forward=16)
TIED = dataclasses.replace(
    MODEL, tie_embeddings=True, logit_softcap=4.0, heads=4, kv_heads=2, activation="swiglu", norm="rms", positions="rope"
)
TRAIN = TrainConfig(batch=12, dtype="float64", device="cpu", label_smoothing=0.1)
LORAS = {
    "blocks": LoRA(2, 8.0),
    "attention": LoRA(3, 3.0, "attention", "token_embedding,output"),
    "head": LoRA(1, 2.0, "feed_forward.down,output", "final_norm"),
}


def started(wing, model, lora, nonzero=True):
    """(frozen, params): adapters with something in both matrices, unless they are to be as at the beginning."""
    frozen = wing.array(random_params(model))
    params = wing.module("sft.lora").initial_adapters(frozen, model, lora, 5)
    if nonzero:
        rng = np.random.default_rng(1)
        params = {name: value + wing.array(0.3 * rng.standard_normal(value.shape)) for name, value in params.items()}
    return frozen, params


def gradients(wing, model, params, frozen=None, train=TRAIN, **more):
    inputs, targets = (wing.array(x) for x in unequal_batch())
    loss, grads = wing.module("training.step").loss_and_grads(
        params, inputs, targets, model, train, 3, weights=wing.array(unequal_weights()), frozen=frozen, **more
    )
    return float(loss), plain(grads)


def lora_for(model, lora):
    tied = model.tie_embeddings and "output" in lora.targets
    return dataclasses.replace(lora, targets="feed_forward.down") if tied else lora


@both
@pytest.mark.parametrize("model", [MODEL, TIED], ids=["pre", "tied"])
@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
def test_adapters_learn_what_the_merged_matrices_would(wing, model, lora):
    """Loss as of ``merge``'s weights; the gradients of A and B by the chain rule from the whole matrices' gradient."""
    lora = lora_for(model, lora)
    frozen, params = started(wing, model, lora)
    merged = wing.module("sft.lora").merge(frozen, params, model, lora)
    whole = gradients(wing, model, merged)
    expected, a_b = {}, plain(params)
    for name in adapters.adapted(model, lora):
        first, second = adapters.pair(name)
        expected[first] = lora.scale * a_b[second].T @ whole[1][name]
        expected[second] = lora.scale * whole[1][name] @ a_b[first].T
    expected |= {name: whole[1][name] for name in adapters.whole(model, lora)}
    for train in (TRAIN, dataclasses.replace(TRAIN, accumulate=3), dataclasses.replace(TRAIN, recompute=True, loss_chunk=7)):
        found = gradients(wing, model, params, (frozen, lora), train)
        assert found[1].keys() == expected.keys() == adapters.trained_shapes(model, lora).keys()
        assert_close(found, (whole[0], expected), 1e-11)


@both
@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
def test_fresh_adapters_change_nothing_and_can_learn(wing, lora):
    frozen, params = started(wing, MODEL, lora, nonzero=False)
    module = wing.module("sft.lora")
    same, weights = module.merge(frozen, params, MODEL, lora), plain(frozen)
    assert all(np.array_equal(value, weights[name]) for name, value in plain(same).items())
    _, grads = gradients(wing, MODEL, params, (frozen, lora))
    for name, grad in grads.items():
        assert grad.any() != name.endswith(adapters.A), name  # B first; A has none as long as B is 0


@both
@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
def test_a_step_moves_adapters_alone(wing, lora):
    frozen, params = started(wing, MODEL, lora)
    before = {name: np.array(value) for name, value in plain(frozen).items()}
    states = wing.module("training.optimizer").init_states(params, TRAIN)
    old = {name: np.array(value) for name, value in plain(params).items()}
    inputs, targets = (wing.array(x) for x in unequal_batch())
    metrics, params, _ = wing.module("training.step").train_step(
        params, states, inputs, targets, MODEL, TRAIN, 3, frozen=(frozen, lora)
    )
    assert not metrics["skipped"] and set(plain(params)) == set(old)
    assert all(not np.array_equal(value, old[name]) for name, value in plain(params).items())
    assert all(np.array_equal(value, before[name]) for name, value in plain(frozen).items())


@both
def test_unmerging_gives_the_weights_back(wing):
    """To half a unit in the last place of the merged weight, which is what rounding it once can lose."""
    lora, module = LORAS["blocks"], wing.module("sft.lora")
    for dtype, unit in ((np.float64, 2.0**-53), (np.float32, 2.0**-24)):
        frozen, params = ({name: plain(value).astype(dtype) for name, value in group.items()} for group in started(wing, MODEL, lora))
        merged = module.merge(wing.array(frozen), wing.array(params), MODEL, lora)
        back = plain(module.unmerge(merged, wing.array(params), MODEL, lora))
        for name, value in frozen.items():
            assert back[name].dtype == dtype
            allowed = 2 * unit * (np.abs(plain(merged)[name]) + np.abs(value))
            if name in adapters.adapted(MODEL, lora):
                a, b = (np.abs(params[part]).astype(np.float64) for part in adapters.pair(name))
                allowed += 2.0**-50 * lora.scale * (b @ a)  # the roundings of the product itself, in float64
            assert (np.abs(back[name].astype(np.float64) - value) <= allowed).all(), name


@both
def test_weights_of_adapt_are_those_of_merge(wing):
    """``adapt`` in NumPy adds the matrices; in Torch it keeps them apart, and ``linear`` multiplies the same."""
    lora = LORAS["head"]
    frozen, params = started(wing, MODEL, lora)
    module = wing.module("sft.lora")
    merged = plain(module.merge(frozen, params, MODEL, lora))
    weights = module.adapt(frozen, params, MODEL, lora)
    weights = weights if isinstance(weights, dict) else weights[0]
    x = np.random.default_rng(0).standard_normal((5, 16))
    for name, shape in parameter_shapes(MODEL).items():
        if len(shape) == 2 and shape[1] == 16:
            y = wing.module("model.linear").linear(wing.array(x), weights[name])
            assert np.abs(plain(y[0] if isinstance(y, tuple) else y) - x @ merged[name].T).max() < 1e-12


def test_torch_keeps_adapters_apart():
    """No gradient of a frozen matrix is computed, and none as large as one is kept for the backward pass."""
    lora = LORAS["blocks"]
    frozen, params = started(WINGS[1], MODEL, lora)
    weights = WINGS[1].module("sft.lora").adapt(frozen, params, MODEL, lora)
    adapted = weights["blocks.0.feed_forward.up.weight"]
    assert type(adapted).__name__ == "LowRank" and not adapted.weight.requires_grad
    x = torch.randn(4, 8, dtype=torch.float64)
    expected = x @ (adapted.weight + adapted.scale * adapted.b @ adapted.a).T
    assert torch.allclose(adapted.linear(x), expected, rtol=1e-12)


# -- files ---------------------------------------------------------------------------------------------------------


def run_of(wing, lora, model=MODEL):
    frozen, params = started(wing, model, lora)
    states = wing.module("training.optimizer").init_states(params, TRAIN)
    return checkpoint_file.Run(model, TRAIN, params, states, 7, 84, 900, frozen=(frozen, lora))


def same_bits(one, other):
    one, other = plain(one), plain(other)
    assert one.keys() == other.keys()
    assert all(value.dtype == other[name].dtype and np.array_equal(value, other[name]) for name, value in one.items())


@both
@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
def test_checkpoints_keep_both_apart_and_load_them_merged(wing, lora, tmp_path):
    run = run_of(wing, lora)
    wing.module("training.checkpoint").save(tmp_path, run)
    for other in WINGS:
        checkpoint = other.module("training.checkpoint")
        found = checkpoint.load(tmp_path, merged=False)
        same_bits(found.params, run.params)
        same_bits(found.frozen[0], run.frozen[0])
        assert found.frozen[1] == lora and found.step == 7 and set(found.states) == set(run.params)
        merged = checkpoint.load(tmp_path)
        assert merged.frozen is None and merged.params.keys() == parameter_shapes(MODEL).keys()
        same_bits(merged.params, other.module("sft.lora").merge(*(found.frozen[0], found.params), MODEL, lora))
        with pytest.raises(UserError, match="no optimiser state"):
            checkpoint_file.check_resumable(merged, MODEL, TRAIN, tmp_path)


@both
def test_adapters_alone_go_through_a_file(wing, tmp_path):
    run = run_of(wing, LORAS["attention"])
    adapter_file.write(tmp_path / adapter_file.NAME, run, plain)
    params, model, lora, seed = adapter_file.read(tmp_path / adapter_file.NAME)
    same_bits(params, run.params)
    assert (model, lora, seed) == (MODEL, LORAS["attention"], TRAIN.seed)
    adapter_file.check_fits(dataclasses.replace(MODEL, vocab_size=9), model, "x")  # a vocabulary may be widened
    for other in (dataclasses.replace(MODEL, width=16), dataclasses.replace(MODEL, vocab_size=14)):
        with pytest.raises(UserError, match="another model"):
            adapter_file.check_fits(other, model, "x")


def test_files_that_hold_no_adapters(tmp_path):
    path = tmp_path / adapter_file.NAME
    with pytest.raises(UserError, match="no adapters at"):
        adapter_file.read(path)
    WINGS[0].module("training.checkpoint").save(tmp_path, run_of(WINGS[0], LORAS["blocks"]))
    with pytest.raises(UserError, match="holds no adapters"):
        adapter_file.read(tmp_path / checkpoint_file.NAME)
    adapter_file.write(path, run_of(WINGS[0], LORAS["blocks"]), plain)
    content = path.read_bytes()
    for wrong in (b"", content[:-200], b"PK" + content[5:], content.replace(b'"rank": 2', b'"rank": 3')):
        path.write_bytes(wrong)
        with pytest.raises(UserError):
            adapter_file.read(path)


@pytest.mark.parametrize(
    "lora, words",
    [(LoRA(2, 1.0, "attentions"), "names none of"), (LoRA(2, 1.0, ""), "adapts nothing"), (LoRA(9, 1.0), "at most 8"),
     (LoRA(2, 1.0, "blocks", "embedding"), "names none of"), (LoRA(2, 1.0, "norm"), "names none of")],
    ids=["unknown target", "no target", "rank beyond the matrix", "unknown whole", "no matrix"],
)  # fmt: skip
def test_settings_that_adapt_nothing(lora, words):
    with pytest.raises(UserError, match=words):
        adapters.trained_shapes(MODEL, lora)
