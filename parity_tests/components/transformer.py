"""Declarations of transformer, dropout_masks and with_prefix."""

import numpy as np

import numpy_ref.model.transformer as numpy_transformer
import torch_impl.model.transformer as torch_transformer
from numpy_ref.config import ACTIVATIONS, NORM_POSITIONS, NORMS, POSITIONS, ModelConfig, parameter_shapes
from numpy_ref.presets import preset
from parity_tests.components.block import KERNELS, MASKS, draw_config, random_parameters
from parity_tests.components.multi_head_attention import EVENTS, documents
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import attention_mask


def keep_masks(rng, config, shape):
    masks = [rng.random(shape) >= config.dropout for _ in range(2 * config.layers + 1)]
    return {"embedding": masks[0], "blocks": list(zip(masks[1::2], masks[2::2], strict=True))}


def draw(source):
    config = draw_config(
        source,
        vocab_size=source.size(17, least=2),
        context=source.size(9),
        layers=source.integer(1, 2),
        positions=source.choice(*POSITIONS),
        tie_embeddings=source.flag(),
        embedding_scale=source.choice(1.0, 3.0),
        embedding_curvature=0.5 if source.dtype in ("float64", "float32") and source.seed % 5 == 0 else 0.0,  # no draw of its own
        logit_softcap=source.choice(0.0, 4.0),
    )
    batch, length, kind = source.integer(1, 2), source.integer(1, config.context), source.choice(*MASKS)
    source.event(config.positions)
    source.event("no window", not config.window and length > 1)
    source.event("alternating", config.full_attention_every == 2 and config.layers == 2 and length > config.window)
    source.event(kind)
    source.event("tied", config.tie_embeddings)
    source.event("hyperbolic embedding", config.embedding_curvature > 0)
    source.event("capped logits", config.logit_softcap > 0)
    logits, recompute = source.choice(True, True, False), source.flag()
    source.event("hidden states", not logits)
    source.event("recomputed", recompute)
    packed = source.choice(False, True)
    source.event("documents", packed)
    given = not packed and source.flag()
    source.event("positions given", given)
    source.event("rows share positions", batch > 1 and not packed and not given)
    source.event("full context", length == config.context)
    source.event("long", length > 4)
    arrays = {
        "tokens": source.tokens((batch, length), config.vocab_size),
        "params": random_parameters(source.rng, parameter_shapes(config)),
        "mask": attention_mask(source.rng, kind, batch, length, length),
        "keep": keep_masks(source.rng, config, (batch, length, config.width)) if config.dropout else None,
        "documents": documents(source.rng, batch, length) if packed else None,
        "positions": source.rng.integers(0, config.context, (batch, length)) if given else None,
    }
    return source.case(arrays, config=config, recompute=recompute, logits=logits)


def fixed(config, batch, length):
    def build(rng):
        tokens = rng.integers(0, config.vocab_size, (batch, length))
        return Case({"tokens": tokens, "params": random_parameters(rng, parameter_shapes(config))}, {"config": config})

    return build


def flops(case):
    """2 for each weight of a matrix and token, and attention's two products."""
    config, tokens = case.static["config"], case.arrays["tokens"]
    weights = sum(p.size for name, p in case.arrays["params"].items() if p.ndim == 2 and "embedding" not in name)
    head = config.vocab_size * config.width if config.tie_embeddings else 0
    return tokens.size * (2 * (weights + head) + 4 * config.layers * tokens.shape[1] * config.width)


SMALL = ModelConfig(vocab_size=11, context=8, layers=1, width=16, heads=2, feed_forward=32)

TRANSFORMER = Component(
    name="transformer",
    numpy=numpy_transformer.transformer,
    torch=torch_transformer.transformer,
    draw=draw,
    differentiable=("params",),
    kernels=KERNELS,
    events=(
        *ACTIVATIONS, *NORMS, *NORM_POSITIONS, *POSITIONS, *MASKS, *EVENTS, "tied", "dropout", "full context",
        "repeated token", "experts", "capped logits", "documents", "hidden states", "recomputed", "positions given",
    ),
    weight=8,
    shapes={
        "small": fixed(SMALL, 2, 8),
        "showcase": fixed(preset("showcase")[0], 32, 128),
        "wide": fixed(preset("small")[0], 4, 256),
    },
    flops=flops,
    bytes=lambda case, size: size * sum(p.size for p in case.arrays["params"].values()),
    bugs=(
        Bug("curvature 1 whatever the config says", "torch", "config.embedding_curvature) *", "1.0) *", "embed", needs=("hyperbolic embedding",)),
        Bug("gradient of flat embeddings", "numpy", "curved_vjp(config.embedding_scale * dx)[0]", "embedding(tokens, params['token_embedding.weight'], config.embedding_scale)[1](dx)", "embed", needs=("hyperbolic embedding",)),
        Bug("embedding not scaled", "numpy", ", config.embedding_scale)", ")", "embed"),
        Bug(
            "positions scaled with the embedding",
            "numpy",
            "x = x + _like(",
            "x = x + config.embedding_scale * _like(",
            "embed",
        ),
        Bug(
            "positions from 1",
            "numpy",
            "np.arange(tokens.shape[1])[None]",
            "1 + np.arange(tokens.shape[1])[None] % max(1, config.context - 1)",
        ),
        Bug("gradient of the tied head forgotten", "numpy", "grads[name] + grad if name in grads else grad", "grad"),
        Bug(
            "gradient of the tied embedding forgotten",
            "numpy",
            "grads[name] + grad if name in grads else grad",
            "grads.get(name, grad)",
        ),
        Bug(
            "blocks run backwards in the backward only once",
            "numpy",
            "dx, block_grads = block_vjps[layer](dx, *([asked[layer]] if layer in asked else []))",
            "block_grads = block_vjps[layer](dx)[1]",
        ),
        Bug("not causal", "numpy", "config, mask, True, block_keep", 'config, mask, bool(config.window) or config.positions == "alibi", block_keep', needs=('no window',)),
        Bug("positions do not restart", "numpy", "np.arange(tokens.shape[1])[None] if documents is None else", "np.arange(tokens.shape[1])[None] if True else", needs=('documents', 'long', 'learned')),
        Bug("given positions ignored", "numpy", "    if positions is None:\n        positions =", "    if True:\n        positions =", needs=("positions given", "long", "learned")),
        Bug("documents see each other", "numpy", "layer, phases, documents, block_routing)", "layer, phases, None, block_routing)", needs=('documents',)),
        Bug("softcap left out of the backward", "numpy", "dlogits if cap_vjp is None else cap_vjp(dlogits)", "dlogits", "head", needs=('capped logits',)),
        Bug("every layer local", "numpy", "block_keep, layer, phases", "block_keep, 0, phases", needs=('alternating',)),
        Bug("recomputed without the weights' gradients", "numpy", "return function(*arguments)[1](*dy)", "dx, grads = function(*arguments)[1](*dy); return dx, {name: 0.5 * grad for name, grad in grads.items()}", "_recomputed"),
        Bug("recomputed from what came out", "numpy", "return function(*arguments)[1](*dy)", "return function(function(*arguments)[0], *arguments[1:])[1](*dy)", "_recomputed"),
        Bug("hidden states not normed", "numpy", "(head if logits else _final_norm)", "(head if logits else (lambda x, params, config: (x, lambda dy: (dy, {}))))"),
        Bug("no gradient through recomputed blocks", "torch", "x = run(\n            x, own,", "x = run(\n            x.detach() if recompute else x, own,"),
        Bug("logits not capped", "torch", "if config.logit_softcap else logits", "if False else logits", "head", needs=('capped logits',)),
        Bug("RoPE left out", "torch", 'if config.positions == "rope" else None', "if False else None", needs=('rope', 'long')),
        Bug("position gradient of the first row alone", "numpy", "np.sum(dx, axis=0, keepdims=True)", "dx[:1]", "embed", needs=("learned", "rows share positions")),
        Bug("no final norm", "torch", 'config.norm_position == "pre":\n        x', "False:\n        x", "_final_norm"),
        Bug(
            "final norm replaced by a factor",
            "torch",
            'x = norm(x, with_prefix(params, "final_norm"), config.norm, config.norm_eps)',
            "x = 1.01 * x",
            "_final_norm",
        ),
        Bug("every layer reads block 0", "torch", 'f"blocks.{layer}"', '"blocks.0"'),
        Bug("dropout of the embedding left out", "torch", "return dropout(x, keep, config.dropout)", "return x", "embed"),
        Bug("mask not passed on", "torch", "own, config, mask, True", "own, config, None, True"),
        Bug(
            "tied head ignored",
            "torch",
            'params["token_embedding.weight" if config.tie_embeddings else "output.weight"]',
            'params.get("output.weight", params["token_embedding.weight"].detach())',
            "head",
        ),
    ),
)


def draw_masks(source):
    config = draw_config(source, layers=source.integer(1, 3))
    static = {"seed": source.integer(0, 2**40), "step": source.integer(0, 10_000), "first": source.choice(0, 1, 5)}
    source.event("later rows", static["first"] > 0)
    source.event("no dropout", config.dropout == 0)
    return source.case({}, config=config, batch=source.integer(1, 3), length=source.size(9), **static)


DROPOUT_MASKS = Component(
    name="dropout_masks",
    numpy=numpy_transformer.dropout_masks,
    torch=torch_transformer.dropout_masks,
    draw=draw_masks,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("no dropout", "dropout", "later rows"),
    bugs=(
        Bug("steps share masks", "numpy", "step * (2 * config.layers + 1)", "step"),
        Bug("the same mask everywhere", "numpy", "start + place", "start"),
        Bug("micro-batches share masks", "numpy", ", first * row)", ")"),
        Bug("rows counted in tokens", "torch", "first * length * config.width", "first * length"),
        Bug("one site too few", "numpy", "2 * config.layers + 1)", "2 * config.layers)"),
        Bug("seed ignored", "torch", "dropout_mask(seed,", "dropout_mask(0,"),
        Bug(
            "attention and feed-forward swapped",
            "torch",
            "zip(masks[1::2], masks[2::2])",
            "zip(masks[2::2], masks[1::2])",
        ),
    ),
)


def draw_prefix(source):
    params = {
        name: np.full((2,), float(number)) for number, name in enumerate(("a.b", "a.c.d", "ab.c", "c", "a", "d.a.b"))
    }
    return source.case({"params": params}, prefix=source.choice("a", "ab", "a.c", "x"))


WITH_PREFIX = Component(
    name="with_prefix",
    numpy=numpy_transformer.with_prefix,
    torch=torch_transformer.with_prefix,
    draw=draw_prefix,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    bugs=(
        Bug("prefix without its dot", "numpy", 'f"{prefix}."', "prefix"),
        Bug("prefix kept", "numpy", "name.removeprefix(start)", "name"),
        Bug("anywhere in the name", "torch", "name.startswith(prefix)", "prefix in name"),
        Bug("one letter short", "torch", "name[len(prefix) :]", "name[len(prefix) + 1 :]"),
    ),
)

COMPONENTS = (TRANSFORMER, DROPOUT_MASKS, WITH_PREFIX)
