"""Properties of a mixture of experts that no pair can prove, because both sides would share the mistake.

Among them those that known frameworks lack: a router that learns from the text also at top-1, a bias that never weighs,
loads that are counted once under recomputation, and biases that move once a step.
"""

import dataclasses

import numpy as np
import pytest
import torch

import torch_impl.model.moe as torch_moe
from numpy_ref import checkpoint_file, expert_log
from numpy_ref.config import ModelConfig, TrainConfig, active_parameter_count, from_json, parameter_count, to_json
from numpy_ref.errors import UserError
from numpy_ref.inspect import flops_forward
from numpy_ref.training.muon import orthogonalise
from parity_tests.components.moe import expert_parameters, layer_parameters
from parity_tests.test_properties import random_params
from parity_tests.trained import SMALL, run
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
LAYER = ModelConfig(layers=1, width=8, heads=2, feed_forward=12, experts=5, experts_per_token=2)
MODEL = ModelConfig(
    vocab_size=13, context=12, layers=3, width=8, heads=2, feed_forward=16, dense_layers=1, experts=4, shared_experts=1
)
TRAIN = TrainConfig(batch=12, dtype="float64", device="cpu", warmup=0, steps=50, balance_loss=0.0)
RNG = np.random.default_rng


def layer(wing, x, params, config, **more):
    """(y, route) of the layer on arrays."""
    return wing.call("model.moe", "moe", x, params, config, **more)


def drawn(config=LAYER, batch=3, length=7, seed=0):
    rng = RNG(seed)
    return rng.standard_normal((batch, length, config.width)), layer_parameters(rng, config)


def close(one, other, tolerance=1e-12):
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def gradients(wing, model, train, batch=None, record=None):
    inputs, targets = batch or RNG(1).integers(0, 13, (2, 12, 10))
    found = wing.module("training.step").loss_and_grads(
        wing.array(random_params(model)), wing.array(inputs), wing.array(targets), model, train, 3, record=record
    )
    return float(found[0]), plain(found[1])


# -- the router ---------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gate, k", [("raw", 1), ("raw", 2), ("renormalised", 2), ("chosen", 2), ("renormalised", 4)])
def test_the_text_teaches_the_router(wing, scoring, gate, k):
    """No balancing loss: what arrives at the router comes from the cross-entropy, also with a single expert a token."""
    model = dataclasses.replace(MODEL, gate=gate, experts_per_token=k, scoring=scoring)
    _, grads = gradients(wing, model, TRAIN)
    for number in model.moe_layers:
        assert np.abs(grads[f"blocks.{number}.feed_forward.router.weight"]).max() > 1e-6


@pytest.mark.parametrize("gate", ["renormalised", "chosen"])
def test_a_weight_divided_by_itself_is_refused(gate):
    with pytest.raises(UserError, match="experts_per_token=1 .* learn nothing; take gate='raw'"):
        dataclasses.replace(MODEL, experts_per_token=1, gate=gate)


@both
def test_softmax_then_top_k_renormalised_is_top_k_then_softmax(wing):
    logits = RNG(0).standard_normal((50, 6)) * 5
    indices = wing.call("model.router", "top_experts", logits, 3)
    one, other = (
        wing.call("model.router", "gate_weights", logits, indices, "softmax", gate) for gate in ("renormalised", "chosen")
    )
    close(one, other, 1e-15)


@both
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_the_bias_chooses_and_never_weighs(wing, scoring):
    """A bias that leaves the choice as it is leaves everything as it is; one that turns it leaves the chosen scores."""
    config = dataclasses.replace(LAYER, router_bias=True, scoring=scoring)
    x, params = drawn(config)
    without = params | {"router.bias": np.zeros(5)}
    y, route = layer(wing, x, without, config)
    for shift in (3.7, -9.0):  # the same for all
        again, same = layer(wing, x, without | {"router.bias": np.full(5, shift)}, config)
        assert np.array_equal(same["indices"], route["indices"])
        close(again, y, 1e-15)
    favourite = without | {"router.bias": np.array([9.0, 0, 0, 0, 9.0])}
    _, turned = layer(wing, x, favourite, config)
    assert set(turned["indices"].flat) == {0, 4}
    weights = wing.call("model.router", "gate_weights", turned["logits"], turned["indices"], scoring)
    scores = wing.call("model.router", "router_scores", turned["logits"], scoring)
    chosen = np.take_along_axis(scores, turned["indices"], -1)
    close(weights, chosen / chosen.sum(-1, keepdims=True), 1e-14)


# -- the experts --------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
@pytest.mark.parametrize("same", [False, True], ids=["one expert", "equal experts"])
def test_it_is_the_dense_layer(wing, activation, same):
    """With one expert, whose softmax is 1; and with equal experts, whose weights sum to 1."""
    config = dataclasses.replace(LAYER, activation=activation)
    if not same:
        config = dataclasses.replace(config, experts=1, experts_per_token=1, gate="raw")
    x, params = drawn(config)
    one = {name.removeprefix("experts."): value[0] for name, value in params.items() if name.startswith("experts.")}
    params |= {f"experts.{name}": np.stack([value] * config.experts) for name, value in one.items()}
    y, _ = layer(wing, x, params, config)
    dense = wing.call("model.feed_forward", "feed_forward", x, one, activation)
    close(y, dense, 1e-13)


@both
def test_permuted_experts_permute_the_choice_alone(wing):
    config = dataclasses.replace(LAYER, shared_experts=1, router_bias=True)
    x, params = drawn(config)
    y, route = layer(wing, x, params, config)
    order = RNG(1).permutation(5)
    inner = ("experts.", "router.")
    moved = {name: value[order] if name.startswith(inner) else value for name, value in params.items()}
    again, other = layer(wing, x, moved, config)
    assert np.array_equal(order[other["indices"]], route["indices"])
    close(again, y, 1e-13)


@both
def test_neither_order_nor_neighbours_matter(wing):
    """Without a capacity a token is served alike wherever it stands and whoever else is there."""
    x, params = drawn()
    y, _ = layer(wing, x, params, LAYER)
    tokens = x.reshape(1, -1, 8)
    order = RNG(2).permutation(tokens.shape[1])
    moved, _ = layer(wing, tokens[:, order], params, LAYER)
    close(moved[0], y.reshape(-1, 8)[order], 1e-13)
    for row in range(3):
        alone, _ = layer(wing, x[row : row + 1, 2:3], params, LAYER)
        close(alone[0, 0], y[row, 2], 1e-13)


@both
def test_empty_experts_one_expert_for_all_and_all_experts(wing):
    """All tokens to two of five: the others' gradients are 0, not absent. All experts: the weighted sum of dense layers."""
    config = dataclasses.replace(LAYER, router_bias=True)
    x, params = drawn(config)
    params["router.bias"] = np.array([0, 9.0, 0, 9.0, 0])
    weights = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in params.items()}
    if wing is WINGS[0]:
        (y, route), vjp = wing.module("model.moe").moe(x, params, config)
        grads = vjp(np.ones_like(y))[1]
    else:
        y, route = torch_moe.moe(torch.from_numpy(x), weights, config)
        y.sum().backward()
        grads = {name: 0 * value if value.grad is None else value.grad for name, value in weights.items()}
    assert set(np.asarray(route["indices"]).flat) == {1, 3}
    for name in ("experts.up.weight", "experts.down.bias"):
        busy = np.abs(np.asarray(grads[name].detach() if torch.is_tensor(grads[name]) else grads[name])).reshape(5, -1).max(-1)
        assert (busy[[1, 3]] > 0).all() and (busy[[0, 2, 4]] == 0).all()

    every = dataclasses.replace(LAYER, experts_per_token=5)
    x, params = drawn(every)
    y, route = layer(wing, x, params, every)
    p = np.exp(route["logits"]) / np.exp(route["logits"]).sum(-1, keepdims=True)
    total = 0
    for number in range(5):
        own = {name.removeprefix("experts."): v[number] for name, v in params.items() if name.startswith("experts.")}
        out = wing.call("model.feed_forward", "feed_forward", x, own, "gelu")
        total = total + p[..., number : number + 1] * out
    close(y, total, 1e-12)


@both
def test_expert_choice_fills_every_expert(wing):
    """Each expert has exactly its capacity; the layer takes such a choice as it takes any other."""
    rng = RNG(3)
    x, logits, params = rng.standard_normal((9, 8)), rng.standard_normal((9, 4)), expert_parameters(rng, 4, 8, 12)
    indices = wing.call("model.router", "expert_choice", logits, 3)
    assert ((indices >= 0).sum(0) == 3).all()
    weights = wing.call("model.router", "gate_weights", logits, indices, "softmax", "raw")
    y = wing.call("model.moe", "experts", x, indices, weights, params)
    nobody = (indices < 0).all(-1)
    assert (y[nobody] == 0).all() and np.abs(y[~nobody]).min() > 0


# -- capacity -----------------------------------------------------------------------------------------------------


def with_capacity(capacity):
    return {"routing": {"capacity": capacity, "noise": None}}


@both
def test_room_for_all_drops_nothing(wing):
    x, params = drawn()
    close(layer(wing, x, params, LAYER, **with_capacity(7))[0], layer(wing, x, params, LAYER)[0], 0)


@both
def test_dropping_looks_neither_ahead_nor_beside(wing):
    """Whether a token is served depends on the tokens of its row before it: later ones and other rows change nothing."""
    x, params = drawn(batch=2, length=12)
    y, route = layer(wing, x, params, LAYER, **with_capacity(3))
    assert (route["kept"] != route["indices"]).any()
    for number in range(2):
        for expert in range(5):
            assert (route["kept"][number] == expert).sum() <= 3
    changed = x.copy()
    changed[0, 6:] = RNG(5).standard_normal((6, 8))
    changed[1] = RNG(6).standard_normal((12, 8))
    again, _ = layer(wing, changed, params, LAYER, **with_capacity(3))
    close(again[0, :6], y[0, :6], 1e-13)


# -- balance ------------------------------------------------------------------------------------------------------


def loss_at(wing, scores, indices):
    return float(wing.call("model.balance", "balance_loss", scores, indices))


@both
@pytest.mark.parametrize("k", [1, 2, 4])
def test_balance_is_where_the_loss_is_one_and_least(wing, k):
    """With scores that follow the loads the loss is E sum f^2 / E^2: 1 where all are equal, and more everywhere else."""
    experts = 4
    cycle = (np.arange(24)[:, None] + np.arange(k)) % experts
    assert loss_at(wing, np.full((24, experts), 1 / experts), cycle) == pytest.approx(1, abs=1e-14)
    rng = RNG(7)
    for _ in range(20):
        indices = np.argsort(rng.random((24, experts)), axis=-1)[:, :k]
        load = np.bincount(indices.ravel(), minlength=experts) / indices.size
        loss = loss_at(wing, np.broadcast_to(load, (24, experts)).copy(), indices)
        assert loss == pytest.approx(experts * (load**2).sum(), rel=1e-12)
        assert loss >= 1 - 1e-14 and (loss > 1 + 1e-9) == bool(np.ptp(load) > 1e-9)
    one = np.zeros((24, 1), int)
    assert loss_at(wing, np.eye(experts)[one[:, 0]], one) == pytest.approx(experts)  # all to one


@both
def test_the_bias_brings_balance(wing):
    """Fixed scores that favour one expert: by nothing but the signs of the loads, all come to have nearly the same."""
    scores = 1 / (1 + np.exp(-RNG(8).standard_normal((400, 6)) - np.arange(6) / 2))
    bias, module = wing.array(np.zeros(6)), wing.module("model.balance")
    router = wing.module("model.router")
    violations = []
    for _ in range(400):
        load = module.expert_load(router.top_experts(wing.array(scores) + bias, 2), 6)
        violations.append(float(expert_log.violation(np.asarray(load, float) / 800)))
        bias = module.update_bias(bias, load, 2e-3)
    assert violations[0] > 0.8 and violations[-1] < 0.1


# -- training -----------------------------------------------------------------------------------------------------

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


# -- the fast path ------------------------------------------------------------------------------------------------


def case(dtype, width=16, hidden=24, rows=60, seed=0, activation="swiglu"):
    rng = RNG(seed)
    params = expert_parameters(rng, 6, width, hidden, activation)
    indices = np.argsort(rng.random((rows, 6)), axis=-1)[:, :2]
    indices[rng.random((rows, 2)) < 0.2] = -1
    arrays = {"x": rng.standard_normal((rows, width)), "weights": rng.random((rows, 2)), "params": params}
    given = WINGS[1].array(arrays)
    leaves = {"x": given["x"], "weights": given["weights"], **given["params"]}
    leaves = {name: value.to(dtype).requires_grad_() for name, value in leaves.items()}
    return leaves, torch.from_numpy(indices)


def results(function, leaves, indices, activation="swiglu", **more):
    params = {name: value for name, value in leaves.items() if name not in ("x", "weights")}
    y = function(leaves["x"], indices, leaves["weights"], params, activation, **more)
    dy = torch.from_numpy(RNG(9).standard_normal(y.shape)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, list(leaves.values()), dy)]


@pytest.mark.parametrize("sizes", [(16, 24), (13, 7)], ids=["aligned", "odd"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_sorted_experts_are_the_loop(dtype, sizes):
    """``experts``, by ``sorted_feed_forward``, against ``experts_loop``."""
    unit = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 0.06, torch.float16: 0.008}[dtype]
    leaves, indices = case(dtype, *sizes)
    for ours, loop in zip(results(torch_moe.experts, leaves, indices), results(torch_moe.experts_loop, leaves, indices)):
        assert ours.dtype == loop.dtype and (ours - loop).abs().max() <= unit * max(1, loop.abs().max())


@pytest.mark.parametrize("activation", ["swiglu", "geglu", "gelu"])
@pytest.mark.parametrize("size", [1, 100, 1000])
def test_parts_of_the_rows_are_the_whole(size, activation, monkeypatch):
    """On a processor what is done element by element goes through the rows in parts, the last one shorter."""
    leaves, indices = case(torch.float64, activation=activation)
    whole = results(torch_moe.experts, leaves, indices, activation)
    monkeypatch.setattr(WINGS[1].module("model.grouped"), "CACHED", size)
    for ours, expected in zip(results(torch_moe.experts, leaves, indices, activation), whole):
        close(ours.numpy(), expected.numpy(), 1e-13)


@pytest.mark.parametrize("most", [None, 96, 120])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_nothing_is_read_that_nobody_wrote(dtype, most):
    """New memory holds NaN here, as it may anywhere: no result depends on it, with empty slots and with rows cut off."""
    leaves, indices = case(dtype)
    kept = indices.flatten().clone()
    kept[torch.where(kept >= 0)[0][96:]] = -1
    expected = results(torch_moe.experts, leaves, kept.view_as(indices))
    torch.use_deterministic_algorithms(True)
    try:
        found = results(torch_moe.experts, leaves, kept.view_as(indices), most=most)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, other) for one, other in zip(found, expected))


def test_the_gradient_of_a_sum_has_no_strides():
    """``y.sum().backward()`` hands down an expanded number; PyTorch's own grouped product can't take it."""
    leaves, indices = case(torch.float32)
    params = {name: value for name, value in leaves.items() if name not in ("x", "weights")}
    torch_moe.experts(leaves["x"], indices, leaves["weights"], params, "swiglu").sum().backward()
    assert all(torch.isfinite(value.grad).all() and value.grad.any() for value in leaves.values())


def test_a_compiled_model_has_experts():
    """The training step's forward pass, compiled as one graph: the same loss, gradients and loads."""
    forward = torch.compile(WINGS[1].module("model.transformer").transformer, backend="aot_eager", fullgraph=True)
    model, train = dataclasses.replace(NOISY, layers=1, dense_layers=0, dropout=0.0), dataclasses.replace(EVERY_TERM, balance_loss=0.1)
    inputs, targets = (torch.from_numpy(x) for x in RNG(1).integers(0, 13, (2, 12, 10)))
    params, records = WINGS[1].array(random_params(model)), ({}, {})
    step = WINGS[1].module("training.step")
    found = [
        step.loss_and_grads(params, inputs, targets, model, train, 3, record=record, **more)
        for record, more in zip(records, ({}, {"forward": forward}))
    ]
    assert float(found[0][0]) == pytest.approx(float(found[1][0]), rel=1e-12)
    assert torch.equal(records[0]["load"], records[1]["load"]) and torch.equal(records[0]["dropped"], records[1]["dropped"])
    for name, grad in found[0][1].items():
        close(found[1][1][name].numpy(), grad.numpy(), 1e-12)


# -- what it costs, and what can't be -----------------------------------------------------------------------------


def test_active_parameters_are_those_of_the_equal_dense_model():
    """Two of eight experts of width 8, and a shared one: what a token meets is a dense layer of 24, and a router."""
    sparse = dataclasses.replace(MODEL, experts=8, expert_width=8, feed_forward_bias=False, dense_layers=0)
    dense = dataclasses.replace(MODEL, experts=0, shared_experts=0, dense_layers=0, feed_forward=24, feed_forward_bias=False)
    routers = 3 * 8 * 8
    assert active_parameter_count(sparse) == parameter_count(dense) + routers < parameter_count(sparse)
    assert active_parameter_count(dense) == parameter_count(dense)
    assert flops_forward(sparse) == flops_forward(dense) + 2 * routers


WRONG = {
    "more experts a token than there are": ({"experts_per_token": 5}, "experts_per_token=5 is more than experts=4"),
    "no experts a token": ({"experts_per_token": 0}, "experts_per_token=0"),
    "all layers dense": ({"dense_layers": 3}, "leave none of the 3 layers"),
    "a layer that does not exist": ({"dense_layers": 9}, "leave none of the 3 layers"),
    "every fourth of three layers": ({"moe_every": 4}, "leave none of the 3 layers"),
    "groups that do not divide": ({"expert_groups": 3}, "expert_groups=3 groups; take a divisor of 4"),
    "more groups a token than groups": ({"groups_per_token": 2}, "groups_per_token=2 of expert_groups=1"),
    "groups too small": ({"expert_groups": 4}, "fewer than experts_per_token=2"),
    "a scoring that is none": ({"scoring": "tanh"}, "one of softmax, sigmoid"),
    "a gate that is none": ({"gate": "none"}, "one of renormalised, raw, chosen"),
    "experts of nothing": ({"experts": 0}, "means nothing without experts"),
    "scale 0": ({"router_scale": 0.0}, "router_scale=0.0"),
}


@pytest.mark.parametrize("changes, words", WRONG.values(), ids=WRONG)
def test_what_can_not_be_is_one_line(changes, words):
    with pytest.raises(UserError, match=words) as error:
        dataclasses.replace(MODEL, **changes)
    assert "\n" not in str(error.value)


@both
@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_capacity_factors_are_above_zero(wing, factor):
    with pytest.raises(UserError, match="capacity factor"):
        wing.module("model.balance").expert_capacity(8, 4, 2, factor)
    with pytest.raises(UserError, match="capacity_factor=.* a finite number above 0, or none for no limit"):
        dataclasses.replace(TRAIN, capacity_factor=factor)


def test_no_limit_has_a_name(tmp_path, capsys):
    """None in Python, ``none`` on the command line, null in a file; files of before say 0."""
    assert TrainConfig().capacity_factor is None
    for text, factor in (("0.0", None), ("0", None), ("null", None), ("2", 2.0), ("1.25", 1.25)):
        found = from_json(TrainConfig, f'{{"capacity_factor": {text}}}')
        assert found.capacity_factor == factor and from_json(TrainConfig, to_json(found)) == found
    for text in ("-1.0", "false", '"none"', "[]"):
        with pytest.raises(UserError, match="capacity_factor="):
            from_json(TrainConfig, f'{{"capacity_factor": {text}}}')
    argv = ["train", "--out", tmp_path / "new", "--data", "samples", *SMALL, "--experts", 4, "--capacity-factor"]
    for word, said in (("0", "capacity_factor=0.0"), ("-1", "capacity_factor=-1.0"), ("nan", "capacity_factor=nan"), ("x", "'x' is not allowed")):
        assert run(WINGS[0], *argv, word) == 2
        error = capsys.readouterr().err
        assert said in error and "none" in error and error.count("\n") == 1
    assert run(WINGS[0], *argv, 0.5, "--steps", 1) == 0
    assert run(WINGS[0], "train", "--resume", "--out", tmp_path / "new", "--steps", 2, "--capacity-factor", "none") == 0
    arrays, header = checkpoint_file.read(tmp_path / "new")
    assert header["train"]["capacity_factor"] is None
    header["train"]["capacity_factor"] = 0.0
    checkpoint_file.write(tmp_path / "new" / checkpoint_file.NAME, arrays, header)
    for wing in WINGS:
        assert wing.module("training.checkpoint").load(tmp_path / "new").train_config.capacity_factor is None


@both
def test_routers_that_diverged_are_one_line(wing):
    router = wing.module("model.router")
    for broken in (np.nan, np.inf):
        with pytest.raises(UserError, match="router"):
            router.top_experts(wing.array(np.array([[0.0, broken, 1.0]])), 2)
    for k in (0, 4):
        with pytest.raises(UserError, match="experts"):
            router.top_experts(wing.array(np.zeros((2, 3))), k)
    with pytest.raises(UserError, match="groups"):
        router.limit_groups(wing.array(np.zeros((2, 6))), 4, 1)
    with pytest.raises(UserError, match="capacity"):
        router.expert_choice(wing.array(np.zeros((2, 6))), 3)
    with pytest.raises(UserError, match="policy"):
        wing.module("model.balance").drop_overflow(*wing.array((np.zeros((1, 2, 1), int), np.zeros((1, 2, 1)))), 1, "luck")


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
