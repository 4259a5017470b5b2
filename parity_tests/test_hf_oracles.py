"""Llama, Mistral, Qwen3 and GPT-2 of transformers, with random weights, as outside oracles of both wings.

Nothing is downloaded: configurations are drawn, weights are random and mapped to our names here. Needs the extra ``hf``
(``make oracles`` installs it and runs this file).
"""

import numpy as np
import pytest
import torch

from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig, parameter_shapes
from parity_tests.components.block import random_parameters
from parity_tests.wings import WINGS

transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed; make oracles does it")
both = pytest.mark.parametrize("wing", WINGS, ids=str)
SIZE = {"vocab_size": 23, "context": 64, "layers": 2, "width": 24, "heads": 4, "feed_forward": 20}
LLAMA = SIZE | {
    "activation": "swiglu", "positions": "rope", "norm": "rms", "feed_forward_bias": False, "norm_eps": 1e-5,
}  # fmt: skip
SCALED = {"positions": "rope", "rope_original_context": 16, "rope_factor": 4.0}
CASES = {
    "llama, as many key heads": ("llama", ModelConfig(**LLAMA)),
    "llama, grouped": ("llama", ModelConfig(**LLAMA, kv_heads=2, tie_embeddings=True, rope_base=500000.0)),
    "llama, one key head": ("llama", ModelConfig(**LLAMA, kv_heads=1, attention_bias=True)),
    "llama, linear scaling": ("llama", ModelConfig(**LLAMA | SCALED, rope_scaling="linear")),
    "llama, llama3 scaling": ("llama", ModelConfig(**LLAMA | SCALED, kv_heads=2, rope_scaling="llama3")),
    "llama, yarn scaling": ("llama", ModelConfig(**LLAMA | SCALED, kv_heads=2, rope_scaling="yarn", rope_base=100.0)),
    "mistral, window 5": ("mistral", ModelConfig(**LLAMA, kv_heads=2, window=5)),
    "mistral, window 1": ("mistral", ModelConfig(**LLAMA, kv_heads=2, window=1)),
    "mistral, window of the text": ("mistral", ModelConfig(**LLAMA, kv_heads=4, window=19)),
    "qwen3": ("qwen3", ModelConfig(**LLAMA, kv_heads=2, head_width=10, qk_norm=True)),
    "qwen3, one key head": ("qwen3", ModelConfig(**LLAMA, kv_heads=1, head_width=4, qk_norm=True, tie_embeddings=True)),
    "gpt2": ("gpt2", ModelConfig(**SIZE | {"feed_forward": 96}, activation="gelu_tanh", positions="learned",
                                 attention_bias=True, tie_embeddings=True)),
}  # fmt: skip
cases = pytest.mark.parametrize("name", CASES)


def drawn(name):
    """(their model in float64, our config, our parameters)."""
    kind, config = CASES[name]
    params = random_parameters(np.random.default_rng(len(name)), parameter_shapes(config))
    model = (gpt2 if kind == "gpt2" else modern)(kind, config)
    weights = {key: torch.from_numpy(value.copy()) for key, value in theirs(kind, config, params).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(key.endswith("lm_head.weight") and config.tie_embeddings for key in missing)
    return model.eval(), config, params


def modern(kind, config):
    options = {
        "vocab_size": config.vocab_size, "hidden_size": config.width, "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads, "head_dim": config.head_features,
        "max_position_embeddings": config.context, "rms_norm_eps": config.norm_eps, "hidden_act": "silu",
        "tie_word_embeddings": config.tie_embeddings, "attn_implementation": "eager", "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    scaling = {"rope_type": "default"}
    if config.rope_scaling != "none":
        scaling = {"rope_type": config.rope_scaling, "factor": config.rope_factor}
        if config.rope_scaling in ("llama3", "yarn"):
            scaling["original_max_position_embeddings"] = config.rope_original_context
        if config.rope_scaling == "llama3":
            scaling |= {"low_freq_factor": config.rope_low_frequency, "high_freq_factor": config.rope_high_frequency}
    if int(transformers.__version__.split(".")[0]) >= 5:  # one dict holds base and scaling
        options["rope_parameters"] = scaling | {"rope_theta": config.rope_base}
    else:
        options |= {"rope_theta": config.rope_base}
        options |= {"rope_scaling": scaling} if config.rope_scaling != "none" else {}
    if kind == "mistral":
        options["sliding_window"] = config.window
    else:
        options["attention_bias"] = config.attention_bias
    names = {"llama": "Llama", "mistral": "Mistral", "qwen3": "Qwen3"}
    settings = getattr(transformers, names[kind] + "Config")(**options)
    return getattr(transformers, names[kind] + "ForCausalLM")(settings).double()


def gpt2(kind, config):
    settings = transformers.GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.context, n_embd=config.width, n_layer=config.layers,
        n_head=config.heads, n_inner=config.feed_forward, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        layer_norm_epsilon=config.norm_eps, attn_implementation="eager", bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(settings).double()


def theirs(kind, config, arrays):
    """Our arrays under their names and in their layouts: parameters, or their gradients."""
    found = {}
    for name, value in arrays.items():
        path, leaf = name.rsplit(".", 1)
        if kind == "gpt2":
            value = value.T if value.ndim == 2 and "embedding" not in path else value  # they store (inputs, outputs)
            found[f"{_gpt2_name(path)}.{leaf}"] = np.ascontiguousarray(value)
        elif path.endswith("query_key_value"):
            queries, keys = (n * config.head_features for n in (config.heads, config.key_value_heads))
            for part, rows in zip("qkv", np.split(value, [queries, queries + keys]), strict=True):
                found[f"{_modern_name(path)}.{part}_proj.{leaf}"] = rows
        elif path.endswith("gate_up"):
            for part, rows in zip(("gate_proj", "up_proj"), np.split(value, 2), strict=True):
                found[f"{_modern_name(path)}.{part}.{leaf}"] = rows
        else:
            found[f"{_modern_name(path)}.{leaf}"] = value
    return found


def _modern_name(path):
    outer = {"token_embedding": "model.embed_tokens", "final_norm": "model.norm", "output": "lm_head"}
    if path in outer:
        return outer[path]
    _, layer, part = path.split(".", 2)
    inner = {
        "attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm",
        "attention.query_key_value": "self_attn", "attention.output": "self_attn.o_proj",
        "attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm",
        "feed_forward.gate_up": "mlp", "feed_forward.down": "mlp.down_proj",
    }  # fmt: skip
    return f"model.layers.{layer}.{inner[part]}"


def _gpt2_name(path):
    outer = {"token_embedding": "transformer.wte", "position_embedding": "transformer.wpe", "final_norm": "transformer.ln_f"}
    if path in outer:
        return outer[path]
    _, layer, part = path.split(".", 2)
    inner = {
        "attention_norm": "ln_1", "feed_forward_norm": "ln_2", "attention.query_key_value": "attn.c_attn",
        "attention.output": "attn.c_proj", "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj",
    }  # fmt: skip
    return f"transformer.h.{layer}.{inner[part]}"


@both
@cases
def test_logits_loss_and_gradients(wing, name):
    """To 1e-6 at worst: their RoPE tables are float32, so that is where agreement ends; without RoPE 1e-10."""
    model, config, params = drawn(name)
    tokens = np.random.default_rng(3).integers(0, config.vocab_size, (2, 20))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits = model(torch.from_numpy(inputs)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
    loss.backward()
    close = {"rtol": 1e-6, "atol": 1e-6} if config.positions == "rope" else {"rtol": 1e-10, "atol": 1e-10}
    ours = wing.call("model.transformer", "transformer", inputs, params, config)
    np.testing.assert_allclose(ours, logits.detach().numpy(), **close)
    train = TrainConfig(dtype="float64")
    ours_loss, grads = wing.module("training.step").loss_and_grads(
        wing.array(params), wing.array(inputs), wing.array(targets), config, train, 0
    )
    np.testing.assert_allclose(float(ours_loss), loss.item(), **close)
    grads = {key: np.asarray(value) for key, value in grads.items()}
    expected = {key: parameter.grad.numpy() for key, parameter in model.named_parameters()}
    found = theirs(CASES[name][0], config, grads)
    assert set(found) == set(expected)
    for key, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[key], err_msg=key, rtol=1e-5, atol=1e-6)


@both
@cases
def test_cached_greedy_text(wing, name):
    """The words of their ``generate`` with its cache are the words of ours with ours, past the window."""
    model, config, params = drawn(name)
    prompt = np.random.default_rng(4).integers(0, config.vocab_size, 7)
    ids = torch.from_numpy(prompt)[None]
    cached = config.window != 1  # their cache keeps the last W - 1 keys by [-W + 1:], which for W = 1 is all of them
    with torch.no_grad():
        text = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, use_cache=cached, max_new_tokens=24,
            min_new_tokens=24, pad_token_id=0,
        )
    rows = wing.call("inference.generate", "generate", params, config, [prompt], SampleConfig(tokens=24, greedy=True))
    np.testing.assert_array_equal(np.asarray(rows[0]), text[0, 7:].numpy())


@both
def test_answers_packed_in_rows_have_the_loss_of_their_labels(wing):
    """Their model on each conversation by itself, -100 for prompts, one mean over all answers; ours on packed rows."""
    model, config, params = drawn("llama, grouped")
    rng = np.random.default_rng(5)
    lengths = rng.integers(4, 20, 9)
    borders = np.concatenate(([0], np.cumsum(lengths)))
    ids, weights = rng.integers(0, config.vocab_size, borders[-1]), rng.integers(0, 2, borders[-1]).astype(float)
    total = 0.0
    for first, end in zip(borders, borders[1:]):
        labels = np.where(weights[first:end] > 0, ids[first:end], -100)
        tokens = torch.from_numpy(ids[None, first:end])
        total = total + model(tokens, labels=torch.from_numpy(labels)[None], num_items_in_batch=1).loss
    count = sum(weights[first + 1 : end].sum() for first, end in zip(borders, borders[1:]))
    (total / count).backward()
    found = wing.module("data.packing").conversation_batch(ids, weights, borders, np.arange(9), 40)
    inputs, targets, share, documents = (wing.array(np.asarray(part)) for part in found)
    assert len(inputs) < 9
    loss, grads = wing.module("training.step").loss_and_grads(
        wing.array(params), inputs, targets, config, TrainConfig(dtype="float64"), 0, documents, weights=share
    )
    np.testing.assert_allclose(float(loss), (total / count).item(), rtol=1e-6)
    expected = {key: parameter.grad.numpy() for key, parameter in model.named_parameters()}
    for key, gradient in theirs("llama", config, {key: np.asarray(value) for key, value in grads.items()}).items():
        np.testing.assert_allclose(gradient, expected[key], err_msg=key, rtol=1e-5, atol=1e-6)
