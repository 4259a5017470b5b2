"""Experts made fast: tokens sorted by expert against one expert after the other, unwritten memory, a compiled model."""

import dataclasses

import numpy as np
import pytest
import torch

import torch_impl.model.moe as torch_moe
from parity_tests.components.moe import expert_parameters
from parity_tests.test_moe import RNG, close
from parity_tests.test_moe_training import EVERY_TERM, NOISY
from parity_tests.test_properties import random_params
from parity_tests.wings import WINGS


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
