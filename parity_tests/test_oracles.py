"""Outside oracles: both wings against what neither of them wrote.

Two sides that come from the same misreading agree with each other; PyTorch's own modules, published test vectors and
closed forms do not share it. Everything runs in float64, where agreement to 1e-12 leaves no room for a wrong formula.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import numpy_ref.inference.sampling as numpy_sampling
import numpy_ref.model.activations as numpy_activations
import numpy_ref.model.attention as numpy_attention
import numpy_ref.model.block as numpy_block
import numpy_ref.model.norms as numpy_norms
import numpy_ref.model.positions as numpy_positions
import numpy_ref.model.transformer as numpy_transformer
import numpy_ref.rng as numpy_rng
import numpy_ref.training.adamw as numpy_adamw
import numpy_ref.training.clipping as numpy_clipping
import numpy_ref.training.losses as numpy_losses
import numpy_ref.training.muon as numpy_muon
import numpy_ref.training.schedules as numpy_schedules
import torch_impl.inference.sampling as torch_sampling
import torch_impl.model.activations as torch_activations
import torch_impl.model.attention as torch_attention
import torch_impl.model.block as torch_block
import torch_impl.model.norms as torch_norms
import torch_impl.model.positions as torch_positions
import torch_impl.model.transformer as torch_transformer
import torch_impl.rng as torch_rng
import torch_impl.training.adamw as torch_adamw
import torch_impl.training.clipping as torch_clipping
import torch_impl.training.losses as torch_losses
import torch_impl.training.muon as torch_muon
import torch_impl.training.schedules as torch_schedules
from numpy_ref.config import ModelConfig, parameter_shapes

SEEDS = [0, 1, 2]


def close(actual, expected, tolerance=1e-12):
    actual, expected = (np.asarray(a.detach() if torch.is_tensor(a) else a) for a in (actual, expected))
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    assert np.isfinite(expected).all()
    assert (np.abs(actual - expected) <= tolerance * max(1.0, np.abs(expected).max())).all()


def random_params(shapes, rng):
    """Random values everywhere: unit weights and zero biases would hide that a gradient forgets them."""
    return {name: rng.normal(size=shape) * 0.5 + name.endswith("norm.weight") for name, shape in shapes.items()}


def tensors(params):
    return {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}


def inner(params, prefix="blocks.0."):
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}


def encoder_layer(params, config):
    """PyTorch's own block with our parameters: (module, our name -> its parameter)."""
    activation = {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu}[config.activation]
    layer = torch.nn.TransformerEncoderLayer(
        config.width, config.heads, config.feed_forward, 0.0, activation, config.norm_eps,
        batch_first=True, norm_first=config.norm_position == "pre", dtype=torch.float64,
    )  # fmt: skip
    names = {
        "attention.query_key_value.weight": layer.self_attn.in_proj_weight,
        "attention.query_key_value.bias": layer.self_attn.in_proj_bias,
        "attention.output.weight": layer.self_attn.out_proj.weight,
        "attention.output.bias": layer.self_attn.out_proj.bias,
        "feed_forward.up.weight": layer.linear1.weight,
        "feed_forward.up.bias": layer.linear1.bias,
        "feed_forward.down.weight": layer.linear2.weight,
        "feed_forward.down.bias": layer.linear2.bias,
        "attention_norm.weight": layer.norm1.weight,
        "attention_norm.bias": layer.norm1.bias,
        "feed_forward_norm.weight": layer.norm2.weight,
        "feed_forward_norm.bias": layer.norm2.bias,
    }
    with torch.no_grad():
        for name, parameter in names.items():
            parameter.copy_(torch.as_tensor(params[name]))
    return layer, names


BLOCKS = [
    ModelConfig(width=12, heads=3, feed_forward=20, attention_bias=True, activation=activation, norm_position=position)
    for activation in ("gelu", "gelu_tanh", "relu")
    for position in ("pre", "post")
]


@pytest.mark.parametrize("config", BLOCKS, ids=lambda c: f"{c.activation}-{c.norm_position}")
@pytest.mark.parametrize("causal", [True, False])
def test_block_is_pytorchs_encoder_layer(config, causal):
    rng = np.random.default_rng(3)
    params = inner(random_params(parameter_shapes(config), rng))
    x, dy = rng.normal(size=(2, 2, 7, config.width))
    layer, names = encoder_layer(params, config)
    x_layer = torch.tensor(x, requires_grad=True)
    future = torch.nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64) if causal else None
    expected = layer(x_layer, src_mask=future, is_causal=causal)
    expected.backward(torch.tensor(dy))

    y, vjp = numpy_block.block(x, params, config, causal=causal)
    dx, dparams = vjp(dy)
    close(y, expected)
    close(dx, x_layer.grad)
    for name, parameter in names.items():
        close(dparams[name], parameter.grad)

    torch_params, torch_x = tensors(params), torch.tensor(x, requires_grad=True)
    y = torch_block.block(torch_x, torch_params, config, causal=causal)
    y.backward(torch.tensor(dy))
    close(y, expected)
    close(torch_x.grad, x_layer.grad)
    for name, parameter in names.items():
        close(torch_params[name].grad, parameter.grad)


@pytest.mark.parametrize("tied", [True, False])
def test_transformer_is_pytorchs_encoder_with_embeddings(tied):
    """A pre-norm decoder is nn.TransformerEncoder with a causal mask between an embedding and a projection."""
    config = ModelConfig(
        vocab_size=11, context=9, layers=2, width=8, heads=2, feed_forward=12, attention_bias=True, positions="learned",
        tie_embeddings=tied, embedding_scale=1.7,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    params = random_params(parameter_shapes(config), rng)
    tokens = rng.integers(0, 11, size=(3, 9))
    layers = [encoder_layer(inner(params, f"blocks.{i}."), config)[0] for i in range(2)]
    norm = torch.nn.LayerNorm(8, dtype=torch.float64)
    norm.load_state_dict({"weight": torch.tensor(params["final_norm.weight"]), "bias": torch.tensor(params["final_norm.bias"])})
    table, places = torch.tensor(params["token_embedding.weight"]), torch.tensor(params["position_embedding.weight"])
    x = F.embedding(torch.tensor(tokens), table) * 1.7 + places
    future = torch.nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64)
    for layer in layers:
        x = layer(x, src_mask=future)
    expected = F.linear(norm(x), table if tied else torch.tensor(params["output.weight"]))
    close(numpy_transformer.transformer(tokens, params, config)[0], expected)
    close(torch_transformer.transformer(torch.tensor(tokens), tensors(params), config), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_is_pytorchs_math_attention(seed):
    """F.scaled_dot_product_attention in its plain backend, masks drawn so that every query sees some key."""
    rng = np.random.default_rng(seed)
    query, key, value = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 3, 6, 4)), rng.normal(size=(2, 3, 6, 7))
    mask = rng.random((2, 1, 5, 6)) < 0.5
    mask[..., 0] = True
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = F.scaled_dot_product_attention(*map(torch.tensor, (query, key, value)), attn_mask=torch.tensor(mask))
    close(numpy_attention.scaled_dot_product_attention(query, key, value, mask)[0], expected)
    close(torch_attention.scaled_dot_product_attention(*map(torch.tensor, (query, key, value)), torch.tensor(mask)), expected)


@pytest.mark.parametrize("attention", [numpy_attention, torch_attention])
def test_causal_mask_is_aligned_at_the_end(attention):
    """The mask of two queries on four keys, written out: the last query sees everything, the one before all but one."""
    mask = np.asarray(attention.causal_mask(2, 4))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[1, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(np.asarray(attention.causal_mask(4, 2)), [[0, 0], [0, 0], [1, 0], [1, 1]])


def test_attention_by_hand():
    """Two keys with scores 0 and ln 3 give weights 1/4 and 3/4."""
    query, key, value = np.array([[1.0]]), np.array([[0.0], [math.log(3)]]), np.array([[4.0], [8.0]])
    y, vjp = numpy_attention.scaled_dot_product_attention(query, key, value)
    close(y, np.array([[7.0]]))
    # dy/dquery = sum p_j (value_j - y) key_j = 3/4 * (8 - 7) * ln 3
    close(vjp(np.array([[1.0]]))[0], np.array([[0.75 * math.log(3)]]))
    close(torch_attention.scaled_dot_product_attention(*map(torch.tensor, (query, key, value))), np.array([[7.0]]))


def test_sinusoidal_positions_of_the_paper():
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(same): written out for d = 4."""
    expected = np.array([[math.sin(p), math.cos(p), math.sin(p / 100), math.cos(p / 100)] for p in (0, 1, 250)])
    close(numpy_positions.sinusoidal_positions(np.array([0, 1, 250]), 4, np.float64), expected)
    close(torch_positions.sinusoidal_positions(torch.tensor([0, 1, 250]), 4, torch.float64), expected)


def test_gelu_against_the_error_function_of_the_c_library():
    """math.erfc knows Phi also where 1 + erf has cancelled to nothing: at x = -8 the result is about -5e-15."""
    x = np.concatenate([np.linspace(-12, 12, 4001), [0.0, -0.0, 1e-300, -37.0]])
    expected = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    y = numpy_activations.gelu(x)[0]
    # The C library's erfc is itself good to a few units in the last place; the argument's rounding costs x^2 of them.
    budget = 2.0**-53 * (8 + 4 * x * x) * np.abs(expected) + 1e-300
    assert (np.abs(y - expected) <= budget).all()
    y = torch_activations.gelu(torch.tensor(x)).numpy()
    assert (np.abs(y - expected) <= budget + 2.0**-53 * np.abs(x) * 4).all()  # F.gelu computes 1 + erf


def test_layer_norm_is_pytorchs():
    rng = np.random.default_rng(1)
    x, weight, bias = rng.normal(size=(3, 5)) * 3 + 2, rng.normal(size=5), rng.normal(size=5)
    expected = F.layer_norm(*map(torch.tensor, (x,)), (5,), torch.tensor(weight), torch.tensor(bias), 1e-3)
    close(numpy_norms.layer_norm(x, weight, bias, 1e-3)[0], expected)
    close(torch_norms.layer_norm(*map(torch.tensor, (x, weight, bias)), 1e-3), expected)


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


PHILOX = [  # Random123's known answers for philox4x32-10: counter, key, words
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize("counter, key, words", PHILOX)
def test_philox_known_answers(counter, key, words):
    assert numpy_rng.philox(np.array(counter, np.uint32), np.array(key, np.uint32)).tolist() == words
    assert torch_rng.philox(torch.tensor(counter), torch.tensor(key)).tolist() == words


@pytest.mark.parametrize("wing", [numpy_rng, torch_rng])
@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 1000])
def test_permuted_visits_everything_once(wing, size):
    index = np.arange(size) if wing is numpy_rng else torch.arange(size)
    visited = np.asarray(wing.permuted(index, size, 5, 9))
    np.testing.assert_array_equal(np.sort(visited), np.arange(size))
    if size == 1000:
        assert (visited != np.arange(size)).mean() > 0.9
        assert abs(np.corrcoef(visited, np.arange(size))[0, 1]) < 0.1


@pytest.mark.parametrize("wing", [numpy_rng, torch_rng])
def test_uniform_and_normal_have_their_moments(wing):
    """200,000 draws: mean and variance within five standard errors; neighbours uncorrelated."""
    n = 200_000
    u = np.asarray(wing.uniform(1, 2, (n,)))
    assert 0 <= u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n) and abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    z = np.asarray(wing.normal(1, 2, (n,)))
    assert abs(z.mean()) < 5 / math.sqrt(n) and abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n) and abs((z[1:] * z[:-1]).mean()) < 5 / math.sqrt(n)


SAMPLING = [  # probabilities (dyadic: exact in floating point), options, what remains before renormalising
    ([8, 4, 2, 2], {}, [8, 4, 2, 2]),
    ([8, 4, 2, 2], {"top_k": 1}, [8, 0, 0, 0]),
    ([8, 4, 2, 2], {"top_k": 3}, [8, 4, 2, 0]),  # a tie at k: the lower id stays
    ([8, 4, 2, 2], {"top_k": 9}, [8, 4, 2, 2]),
    ([8, 4, 2, 2], {"top_p": 0.5}, [8, 0, 0, 0]),  # the mass reaches p exactly: nothing more is needed
    ([8, 4, 2, 2], {"top_p": 0.51}, [8, 4, 0, 0]),  # the crossing token stays
    ([8, 4, 2, 2], {"top_p": 0.76}, [8, 4, 2, 0]),
    ([8, 4, 2, 2], {"top_p": 1.0}, [8, 4, 2, 2]),
    ([2, 2, 4, 8], {"top_p": 0.76}, [2, 0, 4, 8]),  # by probability, not by position; ties: the lower id first
    ([8, 4, 2, 2], {"min_p": 0.5}, [8, 4, 0, 0]),  # at least, not more than
    ([8, 4, 2, 2], {"min_p": 1.0}, [8, 0, 0, 0]),
    ([8, 4, 2, 2], {"top_k": 2, "top_p": 0.6}, [8, 0, 0, 0]),  # top-p sees 2/3 and 1/3
]


@pytest.mark.parametrize("masses, options, kept", SAMPLING)
def test_sampling_filters_by_hand(masses, options, kept):
    """log2 of the masses as logits at temperature 1/ln 2 ... that is softmax of ln(mass): the masses again."""
    logits, expected = np.log(np.array(masses, np.float64)), np.array(kept, np.float64) / sum(kept)
    close(numpy_sampling.probabilities(logits, **options), expected, 1e-15)
    close(torch_sampling.probabilities(torch.tensor(logits), **options), expected, 1e-15)


@pytest.mark.parametrize("uniform, token", [(0.0, 1), (0.249, 1), (0.25, 3), (0.999999, 3)])
def test_sample_inverts_the_cumulative_mass(uniform, token):
    masses = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    assert int(numpy_sampling.sample(masses, np.float64(uniform))) == token
    assert int(torch_sampling.sample(torch.tensor(masses), torch.tensor(uniform, dtype=torch.float64))) == token
