"""Properties of a mixture of experts that no pair can prove, because both sides would share the mistake.

Among them those that known frameworks lack: a router that learns from the text also at top-1, and a bias that never weighs.
"""

import dataclasses

import numpy as np
import pytest
import torch

import torch_impl.model.moe as torch_moe
from numpy_ref import expert_log
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError
from parity_tests.components.moe import expert_parameters, layer_parameters
from parity_tests.test_properties import random_params
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
