"""Experts in training: micro-batches, the loads of a step, biases that move once a step, what the log and a checkpoint hold."""

import dataclasses

import numpy as np
import pytest

from numpy_ref import checkpoint_file, expert_log
from numpy_ref.errors import UserError
from numpy_ref.training.muon import orthogonalise
from parity_tests.test_moe import MODEL, RNG, TRAIN, both, close, gradients
from parity_tests.test_properties import random_params
from parity_tests.wings import WINGS, plain

EVERY_TERM = dataclasses.replace(
    TRAIN, sequence_balance_loss=0.1, router_z_loss=0.01, capacity_factor=0.8, label_smoothing=0.1
)
NOISY = dataclasses.replace(MODEL, noisy_router=True, router_bias=True, dropout=0.1)


@both
def test_micro_batches_are_the_batch(wing):
    """What is asked of each row, of each token, and what is dropped, does not know of micro-batches: the same gradients."""
    whole = gradients(wing, NOISY, EVERY_TERM)
    for parts in (2, 12):
        found = gradients(wing, NOISY, dataclasses.replace(EVERY_TERM, accumulate=parts))
        assert found[0] == pytest.approx(whole[0], rel=1e-12)
        for name, grad in whole[1].items():
            close(found[1][name], grad, 1e-12 * max(1, np.abs(grad).max()))


@both
def test_the_balance_of_micro_batches_has_the_weight_of_the_batch(wing):
    """Equal micro-batches have equal loads, and so the loss of the whole; sums of the parts would be twice as much."""
    train = dataclasses.replace(TRAIN, balance_loss=1.0)
    inputs, targets = RNG(1).integers(0, 13, (2, 6, 10))
    batch = np.concatenate((inputs, inputs)), np.concatenate((targets, targets))
    records = {}, {}
    whole = gradients(wing, MODEL, train, batch, records[0])
    parts = gradients(wing, MODEL, dataclasses.replace(train, accumulate=2), batch, records[1])
    assert parts[0] == pytest.approx(whole[0], rel=1e-13)
    for name, grad in whole[1].items():
        close(parts[1][name], grad, 1e-12 * max(1, np.abs(grad).max()))
    assert float(records[0]["loss"]) == pytest.approx(float(records[1]["loss"]), rel=1e-13)
    assert 2.0 < float(records[0]["loss"]) < 2.0 * MODEL.experts  # two layers, 1 each at balance


@both
@pytest.mark.parametrize("changes", [{}, {"recompute": True}, {"loss_chunk": 7}, {"accumulate": 3, "recompute": True}])
def test_loads_are_counted_once(wing, changes):
    """Recomputed blocks route twice, and count once."""
    record = {}
    gradients(wing, MODEL, dataclasses.replace(TRAIN, **changes), record=record)
    load = np.asarray(record["load"])
    assert load.shape == (2, 4) and (load.sum(-1) == 12 * 10 * 2).all()
    assert (np.asarray(record["tokens"]) == 120).all() and (np.asarray(record["dropped"]) == 0).all()


def take_steps(wing, model, train, steps=1):
    params = wing.array(random_params(model))
    states, found = wing.module("training.optimizer").init_states(params, train), []
    for step in range(steps):
        inputs, targets = (wing.array(x) for x in RNG(step).integers(0, 13, (2, 12, 10)))
        metrics, params, states = wing.module("training.step").train_step(
            params, states, inputs, targets, model, train, step
        )
        found.append(metrics)
    return found, params, states


@both
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_biases_move_once_a_step_and_by_the_loads_alone(wing, optimizer, accumulate):
    train = dataclasses.replace(TRAIN, optimizer=optimizer, accumulate=accumulate, recompute=accumulate > 1, weight_decay=3.0)
    before = random_params(NOISY)
    (metrics,), params, _ = take_steps(wing, NOISY, train)
    load = np.asarray(metrics["routing"]["load"])
    for number, own in zip(NOISY.moe_layers, load, strict=True):
        name = f"blocks.{number}.feed_forward.router.bias"
        close(plain(params[name]) - before[name], 1e-3 * np.sign(own.mean() - own), 1e-15)
    assert (np.sign(load.mean(-1, keepdims=True) - load) != 0).any()


@both
def test_the_logged_loss_is_that_of_the_text(wing):
    """Not what is minimised: runs with and without balancing are compared by it, and it is that of held-out text."""
    plain_loss = float(take_steps(wing, MODEL, TRAIN)[0][0]["loss"])
    (metrics,), _, _ = take_steps(wing, MODEL, dataclasses.replace(TRAIN, balance_loss=1.0))
    assert float(metrics["loss"]) == pytest.approx(plain_loss, rel=1e-12) and float(metrics["routing"]["loss"]) > 1.5


@both
def test_a_step_that_is_not_finite_moves_no_bias(wing):
    params = random_params(NOISY)
    params["blocks.1.feed_forward.router.weight"][0, 0] = np.nan
    params = wing.array(params)
    states = wing.module("training.optimizer").init_states(params, TRAIN)
    inputs, targets = (wing.array(x) for x in RNG(0).integers(0, 13, (2, 12, 10)))
    metrics, after, _ = wing.module("training.step").train_step(params, states, inputs, targets, NOISY, TRAIN, 0)
    assert metrics["skipped"]
    for name, value in random_params(NOISY).items():
        if name.endswith("router.bias"):
            np.testing.assert_array_equal(plain(after[name]), value)


def test_both_wings_train_alike():
    """Twenty steps with everything: the same losses, loads and weights, to the last digits of float64."""
    train = dataclasses.replace(EVERY_TERM, balance_loss=0.1, optimizer="muon", accumulate=2, ema=0.9)
    model = dataclasses.replace(NOISY, activation="swiglu", scoring="sigmoid", expert_groups=2, groups_per_token=1)
    one, other = (take_steps(wing, model, train, 20) for wing in WINGS)
    for ours, theirs in zip(one[0], other[0], strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-9)
        assert np.array_equal(np.asarray(ours["routing"]["load"]), np.asarray(theirs["routing"]["load"]))
    for name, value in one[1].items():
        close(plain(other[1][name]), value, 1e-8)


@both
def test_muon_takes_each_expert_for_itself(wing):
    """The step of a stack of matrices is the stack of their steps; the router, whose rows are experts, takes AdamW."""
    train = dataclasses.replace(TRAIN, optimizer="muon", weight_decay=0.0)
    model = dataclasses.replace(MODEL, activation="swiglu")
    _, params, states = take_steps(wing, model, train)
    before, (_, grads) = random_params(model), gradients(wing, model, train, tuple(RNG(0).integers(0, 13, (2, 12, 10))))
    name = "blocks.1.feed_forward.experts.gate_up.weight"
    step = plain(params[name]) - before[name]
    for expert in range(4):
        for half in (slice(0, 16), slice(16, 32)):
            wanted = orthogonalise(grads[name][expert, half])
            cosine = (wanted * -step[expert, half]).sum() / np.linalg.norm(wanted) / np.linalg.norm(step[expert, half])
            assert cosine > 1 - 1e-9
    assert set(states["blocks.1.feed_forward.router.weight"]) == {"step", "m", "v"}
    assert set(states[name]) == {"momentum"} and plain(states[name]["momentum"]).shape == (4, 32, 8)


@both
def test_noise_is_for_training(wing):
    model = dataclasses.replace(NOISY, dropout=0.0)
    losses = [gradients(wing, model, dataclasses.replace(TRAIN, seed=seed))[0] for seed in (0, 1)]
    assert losses[0] != losses[1]
    tokens = RNG(0).integers(0, 13, (2, 10))
    logits = [wing.call("model.transformer", "transformer", tokens, random_params(model), model) for _ in range(2)]
    assert np.array_equal(*logits)


@both
def test_a_checkpoint_holds_experts(wing, tmp_path):
    train = dataclasses.replace(TRAIN, optimizer="muon")
    _, params, states = take_steps(wing, NOISY, train)
    wing.module("training.checkpoint").save(tmp_path, checkpoint_file.Run(NOISY, train, params, states, 1))
    for other in WINGS:
        run = other.module("training.checkpoint").load(tmp_path)
        assert run.model_config == NOISY
        for name, value in params.items():
            np.testing.assert_array_equal(plain(run.params[name]), plain(value))
        for name, state in states.items():
            for field, value in state.items():
                np.testing.assert_array_equal(plain(run.states[name][field]), plain(value))


def test_the_log_has_loads_and_a_picture(tmp_path):
    """A damaged row is left out; a run without experts is refused by name."""
    (metrics, *_), _, _ = take_steps(WINGS[0], NOISY, dataclasses.replace(EVERY_TERM, balance_loss=0.01))
    row = {"step": 1} | expert_log.row(metrics["routing"])
    load, kept = np.array(row["experts"]["load"]), metrics["routing"]
    close(load.sum(-1), 1, 1e-4)
    close(row["experts"]["dropped"], kept["dropped"] / kept["load"].sum(-1), 1e-5)
    assert all(0 < entropy <= np.log(4) + 1e-4 for entropy in row["experts"]["entropy"])
    assert expert_log.violation(np.array([0.25] * 4)) == 0 and expert_log.violation(np.array([1.0, 0, 0, 0])) == 3
    rows = [row, row | {"step": 2}, {"step": 3}, {"step": 4, "experts": {"load": [[1]], "dropped": [0], "entropy": [0]}},
            {"step": 5, "experts": {"load": "x"}}, {"step": 6, "experts": 3}]  # fmt: skip
    assert expert_log.history(rows)["step"].tolist() == [1, 2]
    expert_log.draw({"a": rows, "b": rows}, tmp_path / "loads.png")
    assert (tmp_path / "loads.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="dense has no loads"):
        expert_log.draw({"a": rows, "dense": [{"step": 1}]}, tmp_path / "other.png")
