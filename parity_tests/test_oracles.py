"""Outside oracles of the model: both wings against what neither of them wrote (training: `test_oracles_training.py`).

Two sides that come from the same misreading agree with each other; PyTorch's own modules, published test vectors and
closed forms do not share it. Everything runs in float64, where agreement to 1e-12 leaves no room for a wrong formula.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import numpy_ref.model.activations as numpy_activations
import numpy_ref.model.attention as numpy_attention
import numpy_ref.model.block as numpy_block
import numpy_ref.model.norms as numpy_norms
import numpy_ref.model.positions as numpy_positions
import numpy_ref.model.transformer as numpy_transformer
import torch_impl.model.activations as torch_activations
import torch_impl.model.attention as torch_attention
import torch_impl.model.block as torch_block
import torch_impl.model.norms as torch_norms
import torch_impl.model.positions as torch_positions
import torch_impl.model.transformer as torch_transformer
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
