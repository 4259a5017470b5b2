"""Outside oracles of training: losses, optimisers, schedule and clipping against PyTorch's own."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import numpy_ref.training.adamw as numpy_adamw
import numpy_ref.training.clipping as numpy_clipping
import numpy_ref.training.losses as numpy_losses
import numpy_ref.training.muon as numpy_muon
import numpy_ref.training.schedules as numpy_schedules
import torch_impl.training.adamw as torch_adamw
import torch_impl.training.clipping as torch_clipping
import torch_impl.training.losses as torch_losses
import torch_impl.training.muon as torch_muon
import torch_impl.training.schedules as torch_schedules
from parity_tests.test_oracles import close


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_is_pytorchs(smoothing, reduction):
    rng = np.random.default_rng(2)
    logits, targets = rng.normal(size=(4, 6, 9)) * 4, rng.integers(0, 9, size=(4, 6))
    targets[1, 2:] = targets[3, 0] = -7
    expected_logits = torch.tensor(logits, requires_grad=True)
    expected = F.cross_entropy(
        expected_logits.reshape(-1, 9), torch.tensor(targets).reshape(-1), ignore_index=-7, label_smoothing=smoothing, reduction=reduction
    ).reshape((4, 6) if reduction == "none" else ())  # fmt: skip
    dy = rng.normal(size=expected.shape)
    expected.backward(torch.tensor(dy))
    loss, vjp = numpy_losses.cross_entropy(logits, targets, -7, smoothing, reduction=reduction)
    close(np.float64(loss) if reduction != "none" else loss, expected)
    close(vjp(dy), expected_logits.grad)
    torch_logits = torch.tensor(logits, requires_grad=True)
    loss = torch_losses.cross_entropy(torch_logits, torch.tensor(targets), -7, smoothing, reduction=reduction)
    loss.backward(torch.tensor(dy))
    close(loss, expected)
    close(torch_logits.grad, expected_logits.grad)


def test_adamw_is_pytorchs_over_many_steps():
    rng = np.random.default_rng(4)
    param = rng.normal(size=(4, 3))
    module = torch.nn.Parameter(torch.tensor(param))
    optimizer = torch.optim.AdamW([module], lr=0.03, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.4)
    sides = [(param, numpy_adamw, np.array), (torch.tensor(param), numpy_adamw and torch_adamw, torch.tensor)]
    states = [wing.init_state(value) for value, wing, _ in sides]
    values = [value for value, _, _ in sides]
    for step in range(12):
        grad = rng.normal(size=(4, 3)) * 10.0 ** (-step)
        module.grad = torch.tensor(grad)
        optimizer.step()
        for i, (_, wing, array) in enumerate(sides):
            values[i], states[i] = wing.adamw(values[i], array(grad), states[i], 0.03, 0.8, 0.9, 1e-3, 0.4)
            close(values[i], module)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_muon_is_pytorchs_within_its_bfloat16(shape):
    """torch.optim.Muon orthogonalises in bfloat16, so only the leading digits can agree; a wrong scale or side can't."""
    rng = np.random.default_rng(6)
    param = rng.normal(size=shape)
    module = torch.nn.Parameter(torch.tensor(param))
    optimizer = torch.optim.Muon([module], lr=0.05, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    values, wings = [param, torch.tensor(param)], [numpy_muon, torch_muon]
    states = [wing.init_state(value) for wing, value in zip(wings, values)]
    for _ in range(4):
        grad, before = rng.normal(size=shape), module.detach().clone()
        module.grad = torch.tensor(grad)
        optimizer.step()
        change = (module.detach() - before).numpy()
        for i, (wing, array) in enumerate(zip(wings, (np.array, torch.tensor))):
            values[i], states[i] = wing.muon(values[i], array(grad), states[i], 0.05, 0.9, 0.3)
            mine = np.asarray(values[i]) - before.numpy()
            assert np.abs(mine - change).max() <= 0.05 * np.abs(change).max()
            values[i] = array(module.detach().numpy())  # follow the oracle: the roundings must not add up


@pytest.mark.parametrize("wing", [numpy_muon, torch_muon])
@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12)])
def test_newton_schulz_flattens_the_singular_values(wing, shape):
    """Five quintic steps take every singular value above about 1e-2 of the largest into [0.65, 1.25]."""
    matrix = np.random.default_rng(7).normal(size=shape)
    array = matrix if wing is numpy_muon else torch.tensor(matrix)
    singular = np.linalg.svd(np.asarray(wing.orthogonalise(array)), compute_uv=False)
    assert singular.max() < 1.3 and singular.min() > 0.3


@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12)])
def test_muon_is_pytorchs(shape, monkeypatch):
    """torch.optim.Muon in float64 (it would cast to bfloat16), its step sized like AdamW's, which it isn't by default."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    rng = np.random.default_rng(9)
    start, grads = rng.normal(size=shape), rng.normal(size=(3, *shape))
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.Muon([parameter], 0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for grad in grads:
        parameter.grad = torch.tensor(grad)
        optimizer.step()
    for wing, array in ((numpy_muon, np.array), (torch_muon, torch.tensor)):
        param, state = array(start), wing.init_state(array(start))
        for grad in grads:
            param, state = wing.muon(param, array(grad), state, 0.1, 0.9, 0.2)
        close(param, parameter)
        close(state["momentum"], optimizer.state[parameter]["momentum_buffer"])
    params, states = {"w": torch.tensor(start)}, {"w": torch_muon.init_state(torch.tensor(start))}
    for grad in grads:
        torch_muon.muon_(params, {"w": torch.tensor(grad)}, states, 0.1, 0.9, 0.2)
    close(params["w"], parameter)


def test_muon_in_bfloat16_is_pytorchs():
    """The same in the format in which both run Newton-Schulz: the same products, so within a few of its roundings."""
    rng = np.random.default_rng(10)
    start, grad = (torch.tensor(rng.normal(size=(24, 16)), dtype=torch.float32) for _ in range(2))
    parameter = torch.nn.Parameter(start.clone())
    parameter.grad = grad.clone()
    torch.optim.Muon([parameter], 0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw").step()
    params = {"w": start.clone()}
    torch_muon.muon_(params, {"w": grad}, {"w": torch_muon.init_state(start)}, 0.1, 0.95, 0.2, torch.bfloat16)
    size = 0.1 * 0.2 * math.sqrt(24)  # of the step, whose entries are below 1.2 times this
    assert (params["w"] - parameter).abs().max() < 16 * 2.0**-8 * size


def test_schedule_is_pytorchs():
    """LinearLR, then CosineAnnealingLR, joined at the end of the warm-up."""
    steps, warmup, peak, final = 20, 5, 0.3, 0.1
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup, eta_min=final * peak)
    expected = []
    for step in range(warmup, steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    for wing in (numpy_schedules, torch_schedules):
        rates = [wing.warmup_cosine(step, steps, peak, warmup, final) for step in range(steps)]
        np.testing.assert_allclose(rates[warmup:], expected, rtol=1e-12)
        np.testing.assert_allclose(rates[:warmup], [peak * (i + 1) / warmup for i in range(warmup)], rtol=1e-15)
        assert wing.warmup_cosine(steps, steps, peak, warmup, final) == pytest.approx(final * peak, rel=1e-15)


@pytest.mark.parametrize("largest", [0.5, 1e9])
def test_clipping_is_pytorchs(largest):
    rng = np.random.default_rng(8)
    grads = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=4)}
    parameters = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads.values()]
    for parameter, grad in zip(parameters, grads.values()):
        parameter.grad = torch.tensor(grad)
    norm = torch.nn.utils.clip_grad_norm_(parameters, largest)
    for wing, array in ((numpy_clipping, np.array), (torch_clipping, torch.tensor)):
        clipped, mine = wing.clip_by_global_norm({k: array(g) for k, g in grads.items()}, largest)
        assert float(mine) == pytest.approx(float(norm), rel=1e-14)
        for grad, parameter in zip(clipped.values(), parameters):
            close(grad, parameter.grad, 1e-5)  # PyTorch divides by norm + 1e-6
