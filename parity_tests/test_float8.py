"""Training in 8 bits: who may, what it changes, and that both sides do the same."""

import dataclasses

import numpy as np
import pytest
import torch

import torch_impl.model.float8 as torch_float8
import torch_impl.training.step as torch_step
from numpy_ref.config import parameter_shapes
from numpy_ref.errors import UserError
from parity_tests.test_precision import MODEL, MODERN, TRAIN, distance, gradients, losses
from parity_tests.test_properties import random_params
from parity_tests.wings import WINGS

models = pytest.mark.parametrize("model", [MODEL, MODERN], ids=["classic", "modern"])


@pytest.fixture
def anywhere(monkeypatch):
    """The products of 8-bit numbers in float32 or float64, where there is no GPU that has them."""
    monkeypatch.setattr(torch_step, "require_float8", lambda device, params: None)


@models
def test_both_sides_train_alike_in_8_bits(model, anywhere):
    """In float64 a number falls to the other side of a rounding about never: the gradients agree like any others."""
    ours, theirs = (gradients(wing, model, "float64", float8=True) for wing in WINGS)
    assert distance(ours, theirs) < 1e-10
    assert 0.01 < distance(ours, gradients(WINGS[0], model, "float64")) < 0.5  # and 8 bits do cost something


def test_8_bits_learn(anywhere):
    for wing in WINGS:
        found = losses(wing, MODERN, dataclasses.replace(TRAIN, dtype="bfloat16", float8=True))
        assert np.isfinite(found).all() and found[-5:].mean() < found[:5].mean() - 0.2


def test_only_the_matrices_of_the_blocks_are_8_bits():
    for wing in WINGS:
        params = wing.module("model.float8").float8_params(wing.array(random_params(MODERN)))
        wrapped = {name for name, value in params.items() if isinstance(value, wing.module("model.float8").Float8)}
        expected = ("query_key_value.weight", "output.weight", "gate_up.weight", "down.weight")
        assert wrapped == {n for n in parameter_shapes(MODERN) if n.startswith("blocks.") and n.endswith(expected)}


def test_a_processor_without_8_bits_is_refused(monkeypatch):
    with pytest.raises(UserError, match="Hopper"):
        gradients(WINGS[1], MODEL, "float32", float8=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    with pytest.raises(UserError, match="A100"):
        torch_float8.require_float8(torch.device("cuda"), {})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    torch_float8.require_float8(torch.device("cuda"), {"blocks.0.feed_forward.up.weight": torch.zeros(32, 16)})
    with pytest.raises(UserError, match="30 x 16"):
        torch_float8.require_float8(torch.device("cuda"), {"blocks.0.feed_forward.up.weight": torch.zeros(30, 16)})


@pytest.mark.skipif(not torch.cuda.is_available() or torch.cuda.get_device_capability() < (9, 0), reason="needs Hopper")
@pytest.mark.parametrize("rows", [1, 16, 37])
def test_hopper_multiplies_like_the_emulation(rows):
    rng = torch.Generator().manual_seed(rows)
    x, weight, dy = (torch.randn(shape, generator=rng).bfloat16() for shape in ((rows, 64), (48, 64), (rows, 48)))
    results = []
    for device in ("cpu", "cuda"):
        given = [value.to(device).requires_grad_() for value in (x, weight)]
        y = torch_float8.float8_linear(*given)
        results.append([y.detach().cpu(), *(g.cpu() for g in torch.autograd.grad(y, given, dy.to(device)))])
    for one, other in zip(*results, strict=True):
        assert ((one - other).abs() <= 2.0**-7 * one.abs().max()).all()
