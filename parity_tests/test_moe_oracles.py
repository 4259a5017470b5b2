"""Mixtral, Qwen3-MoE and OLMoE of transformers, with random weights, as outside oracles of the mixture of experts.

Outputs, router logits, balancing loss and every gradient, of single blocks and of whole models. Nothing is downloaded.
Needs the extra ``hf`` (``make oracles``).
"""

import dataclasses
from importlib import import_module

import numpy as np
import pytest
import torch

from numpy_ref.config import ModelConfig, TrainConfig, parameter_shapes
from parity_tests.components.block import random_parameters
from parity_tests.components.moe import layer_parameters
from parity_tests.wings import WINGS

transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed; make oracles does it")
both = pytest.mark.parametrize("wing", WINGS, ids=str)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # their softmax over the experts is in float32, whatever the model's format
SIZE = ModelConfig(
    vocab_size=23, context=64, layers=4, width=24, heads=4, kv_heads=2, feed_forward=20, activation="swiglu",
    positions="rope", norm="rms", feed_forward_bias=False, experts=6, experts_per_token=2, expert_width=14,
)  # fmt: skip
CASES = {
    "mixtral": ("mixtral", SIZE),
    "mixtral, three experts a token": ("mixtral", dataclasses.replace(SIZE, experts_per_token=3)),
    "qwen3, renormalised": ("qwen3_moe", dataclasses.replace(SIZE, qk_norm=True, head_width=10)),
    "qwen3, raw": ("qwen3_moe", dataclasses.replace(SIZE, qk_norm=True, head_width=10, gate="raw", experts_per_token=1)),
    "qwen3, every second layer": ("qwen3_moe", dataclasses.replace(SIZE, qk_norm=True, head_width=10, moe_every=2)),
    "qwen3, first layer dense": ("qwen3_moe", dataclasses.replace(SIZE, qk_norm=True, head_width=10, dense_layers=1)),
    "olmoe": ("olmoe", dataclasses.replace(SIZE, gate="raw", experts_per_token=4)),
    "olmoe, all experts": ("olmoe", dataclasses.replace(SIZE, gate="raw", experts_per_token=6)),
}
NAMES = {"mixtral": "Mixtral", "qwen3_moe": "Qwen3Moe", "olmoe": "Olmoe"}


def settings(kind, config):
    """Their config of our model."""
    options = {
        "vocab_size": config.vocab_size, "hidden_size": config.width, "intermediate_size": config.expert_features,
        "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads, "head_dim": config.head_features,
        "max_position_embeddings": config.context, "rms_norm_eps": config.norm_eps, "hidden_act": "silu",
        "num_experts_per_tok": config.experts_per_token, "attn_implementation": "eager", "experts_implementation": "eager",
        "tie_word_embeddings": False, "output_router_logits": True, "router_aux_loss_coef": 0.5, "bos_token_id": None, "eos_token_id": None,
        "pad_token_id": None, "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
    }  # fmt: skip
    if kind == "mixtral":
        options["num_local_experts"] = config.experts
    else:
        options |= {"num_experts": config.experts, "norm_topk_prob": config.gate == "renormalised"}
    if kind == "qwen3_moe":
        dense = [layer for layer in range(config.layers) if layer not in config.moe_layers]
        options |= {"moe_intermediate_size": config.expert_features, "intermediate_size": config.feed_forward}
        options |= {"mlp_only_layers": dense, "decoder_sparse_step": 1}
    return getattr(transformers, NAMES[kind] + "Config")(**options)


def block(kind, config):
    module = import_module(f"transformers.models.{kind}.modeling_{kind}")
    return getattr(module, NAMES[kind] + "SparseMoeBlock")(settings(kind, config)).double()


OURS = {"gate.weight": "router.weight", "experts.gate_up_proj": "experts.gate_up.weight", "experts.down_proj": "experts.down.weight"}


@both
@pytest.mark.parametrize("name", CASES)
def test_blocks(wing, name):
    """Output and router logits, and the gradients of input, router and experts."""
    kind, config = CASES[name]
    rng, theirs = np.random.default_rng(len(name)), block(kind, config)
    params, x = layer_parameters(rng, config), rng.standard_normal((3, 11, config.width))
    dy = rng.standard_normal(x.shape)
    theirs.load_state_dict({own: torch.from_numpy(params[ours]) for own, ours in OURS.items()})
    inputs = torch.from_numpy(x).requires_grad_()
    wanted = theirs(inputs)
    wanted.backward(torch.from_numpy(dy))
    logits = theirs.gate(inputs)[0].detach().numpy()

    moe = wing.module("model.moe").moe
    if wing is WINGS[0]:
        (y, route), vjp = moe(x, params, config)
        dx, grads = vjp(dy)
    else:
        leaves = {key: torch.from_numpy(value).requires_grad_() for key, value in params.items()}
        own = torch.from_numpy(x).requires_grad_()
        y, route = moe(own, leaves, config)
        y.backward(torch.from_numpy(dy))
        dx, grads = own.grad, {key: value.grad for key, value in leaves.items()}
        y, route = y.detach(), {key: value.detach() for key, value in route.items()}
    np.testing.assert_allclose(np.asarray(route["logits"]).reshape(logits.shape), logits, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.asarray(y), wanted.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(np.asarray(dx), inputs.grad.numpy(), **CLOSE)
    gradients = dict(theirs.named_parameters())
    for own, ours in OURS.items():
        np.testing.assert_allclose(np.asarray(grads[ours]), gradients[own].grad.numpy(), err_msg=ours, **CLOSE)


@both
@pytest.mark.parametrize("kind", NAMES)
def test_balancing_loss_of_one_layer(wing, kind):
    """Theirs counts each of a token's K choices as a whole one, and so is K times Switch's; 1 at balance is ours."""
    config = next(config for own, config in CASES.values() if own == kind)
    module = import_module(f"transformers.models.{kind}.modeling_{kind}")
    logits = np.random.default_rng(5).standard_normal((40, config.experts))
    indices = wing.call("model.router", "top_experts", logits, config.experts_per_token)
    scores = wing.call("model.router", "router_scores", logits)
    ours = wing.call("model.balance", "balance_loss", scores, indices)
    theirs = module.load_balancing_loss_func((torch.from_numpy(logits),), config.experts, config.experts_per_token)
    np.testing.assert_allclose(config.experts_per_token * float(ours), float(theirs), rtol=1e-6)


MODELS = [name for name, (kind, _) in CASES.items() if kind != "olmoe"]  # which norms all heads' queries as one


def renamed(config, arrays):
    """Our arrays, parameters or gradients, under their names and in their layouts."""
    outer = {"token_embedding": "model.embed_tokens", "final_norm": "model.norm", "output": "lm_head"}
    inner = {
        "attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm",
        "attention.output": "self_attn.o_proj", "attention.query_norm": "self_attn.q_norm",
        "attention.key_norm": "self_attn.k_norm", "feed_forward.router": "mlp.gate",
        "feed_forward.down": "mlp.down_proj",
    }  # fmt: skip
    found = {}
    for name, value in arrays.items():
        path = name.removesuffix(".weight")
        if path in outer:
            found[f"{outer[path]}.weight"] = value
            continue
        _, layer, part = path.split(".", 2)
        prefix = f"model.layers.{layer}."
        queries, keys = (n * config.head_features for n in (config.heads, config.key_value_heads))
        if part == "attention.query_key_value":
            for letter, rows in zip("qkv", np.split(value, [queries, queries + keys]), strict=True):
                found[f"{prefix}self_attn.{letter}_proj.weight"] = rows
        elif part == "feed_forward.gate_up":
            for half, rows in zip(("gate_proj", "up_proj"), np.split(value, 2), strict=True):
                found[f"{prefix}mlp.{half}.weight"] = rows
        elif ".experts." in part:
            found[f"{prefix}mlp.experts.{part.rsplit('.', 1)[1]}_proj"] = value
        else:
            found[f"{prefix}{inner[part]}.weight"] = value
    return found


@both
@pytest.mark.parametrize("name", MODELS)
def test_whole_models(wing, name):
    """Logits, router logits, loss and gradients; with one layer of experts also their balancing loss, over K."""
    kind, config = CASES[name]
    config = dataclasses.replace(config, layers=2) if config.dense_layers else config
    model = getattr(transformers, NAMES[kind] + "ForCausalLM")(settings(kind, config)).double()
    params = random_parameters(np.random.default_rng(len(name)), parameter_shapes(config))
    model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in renamed(config, params).items()})
    tokens = np.random.default_rng(3).integers(0, config.vocab_size, (2, 20))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    found = model(torch.from_numpy(inputs))
    loss = torch.nn.functional.cross_entropy(found.logits.flatten(0, 1), torch.from_numpy(targets).flatten())
    single = len(config.moe_layers) == 1
    if single:
        loss = loss + 0.5 / config.experts_per_token * found.aux_loss
    loss.backward()

    routing = [{"capacity": None, "noise": None}] * config.layers
    logits, routes = wing.call("model.transformer", "transformer", inputs, params, config, routing=routing)
    np.testing.assert_allclose(logits, found.logits.detach().numpy(), **CLOSE)
    for route, theirs in zip(routes, [one for one in found.router_logits if one is not None], strict=True):
        np.testing.assert_allclose(route["logits"].reshape(theirs.shape), theirs.detach().numpy(), **CLOSE)
    train = TrainConfig(dtype="float64", balance_loss=0.5 if single else 0.0)
    ours, grads = wing.module("training.step").loss_and_grads(
        wing.array(params), wing.array(inputs), wing.array(targets), config, train, 0
    )
    np.testing.assert_allclose(float(ours), loss.item(), **CLOSE)
    expected = {key: parameter.grad.numpy() for key, parameter in model.named_parameters()}
    for key, gradient in renamed(config, {key: np.asarray(value) for key, value in grads.items()}).items():
        np.testing.assert_allclose(gradient, expected[key], err_msg=key, rtol=1e-4, atol=1e-5)
