"""Declaration of block."""

import math

import numpy as np

import numpy_ref.model.block as numpy_block
import torch_impl.model.block as torch_block
from numpy_ref.config import ACTIVATIONS, NORM_POSITIONS, NORMS, ModelConfig, parameter_shapes
from numpy_ref.model.positions import rope_phases
from parity_tests.components.activations import GELU, GELU_TANH, SILU, SOFTCAP
from parity_tests.components.attention import ATTENTION
from parity_tests.components.moe import expert_fields
from parity_tests.components.multi_head_attention import EVENTS, draw_attention_config
from parity_tests.components.norms import LAYER_NORM, RMS_NORM
from parity_tests.components.router import ROUTER_SCORES
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import attention_mask

MASKS = ("none", "random", "empty row", "right padding", "packed")


KERNELS = (LAYER_NORM, RMS_NORM, ATTENTION, GELU, GELU_TANH, SILU, SOFTCAP, ROUTER_SCORES)


def draw_config(source, **fixed):
    """A small model of any kind."""
    choices = {
        "feed_forward": source.size(33),
        "activation": source.choice(*ACTIVATIONS),
        "norm": source.choice(*NORMS),
        "norm_position": source.choice(*NORM_POSITIONS),
        "norm_bias": source.flag(),
        "feed_forward_bias": source.flag(),
        "dropout": source.choice(0.0, 0.3),
    }
    # In 16 bits near ties are decided otherwise than in float64: there the experts are proved with a choice that is given.
    if source.dtype in ("float64", "float32") and source.choice(False, False, True):
        choices |= expert_fields(source, fixed.get("layers", 1))
    config = draw_attention_config(source, **choices | fixed)
    for name in ("activation", "norm", "norm_position"):
        source.event(getattr(config, name))
    source.event("dropout", config.dropout > 0)
    source.event("experts", config.experts > 0)
    source.event("balanced by a bias", config.router_bias and 0 in config.moe_layers)
    return config


def random_parameters(rng, shapes):
    """Random everywhere: unit norms and zero biases would hide that a gradient forgets them."""
    return {
        name: rng.standard_normal(shape) / math.sqrt(shape[-1]) if len(shape) > 1 else rng.uniform(0.3, 1.5, shape)
        for name, shape in shapes.items()
    }


def block_parameters(rng, config, layer=0):
    shapes = {name.removeprefix(f"blocks.{layer}."): shape for name, shape in parameter_shapes(config).items()}
    return random_parameters(
        rng, {name: shape for name, shape in shapes.items() if name.startswith(("attention", "feed_forward"))}
    )


def draw(source):
    config = draw_config(source, layers=2)
    layer = source.choice(0, 1)
    batch, length, kind = source.integer(1, 2), source.size(9), source.choice(*MASKS)
    causal = True if config.layer_window(layer) or config.positions == "alibi" else source.flag()
    shape = (batch, length, config.width)
    keep = tuple(source.rng.random(shape) >= config.dropout for _ in range(2)) if config.dropout else None
    source.event(kind)
    source.event("causal", causal)
    source.event("alternating", layer == 1 and config.full_attention_every == 2 and length > config.window)
    arrays = {
        "x": source.array("x", shape, ("one", "small", "sixteen", "ties", "heavy")),
        "params": block_parameters(source.rng, config, layer),
        "mask": attention_mask(source.rng, kind, batch, length, length),
        "keep": keep,
        "phases": rope_phases(np.arange(length)[None], config, np.float64) if config.positions == "rope" else None,
    }
    return source.case(arrays, config=config, causal=causal, layer=layer)


def shape(batch, length, width, heads):
    def build(rng):
        config = ModelConfig(layers=1, width=width, heads=heads, feed_forward=4 * width, context=length)
        arrays = {"x": rng.standard_normal((batch, length, width)), "params": block_parameters(rng, config)}
        return Case(arrays, {"config": config})

    return build


def flops(case):
    batch, length, width = case.arrays["x"].shape
    return batch * length * width * (8 * width + 4 * length + 4 * case.static["config"].feed_forward)


BLOCK = Component(
    name="block",
    numpy=numpy_block.block,
    torch=torch_block.block,
    draw=draw,
    differentiable=("x", "params"),
    kernels=KERNELS,
    fixed=("phases",),
    events=(*ACTIVATIONS, *NORMS, *NORM_POSITIONS, *MASKS, *EVENTS, "dropout", "causal", "strided"),
    weight=5,
    shapes={"small": shape(2, 5, 16, 2), "showcase": shape(32, 128, 128, 8), "wide": shape(32, 256, 384, 6)},
    flops=flops,
    bytes=lambda case, size: size * (2 * case.arrays["x"].size + sum(p.size for p in case.arrays["params"].values())),
    bugs=(
        Bug("pre for post", "numpy", 'config.norm_position == "pre"', 'config.norm_position != "pre"'),
        Bug(
            "residual around the normalised stream",
            "numpy",
            "residual(x, dropped)",
            "residual(n, dropped)",
            "_pre_norm",
        ),
        Bug(
            "gradient of the branch alone",
            "numpy",
            "return dx + dx_branch, dfunction, dnorm",
            "return dx_branch, dfunction, dnorm",
            "_pre_norm",
        ),
        Bug(
            "gradient past the branch alone",
            "numpy",
            "return dx + dx_branch, dfunction, dnorm",
            "return dx, dfunction, dnorm",
            "_post_norm",
        ),
        Bug(
            "dropout left out of the backward",
            "numpy",
            "function_vjp(drop_vjp(ddropped), *more)",
            "function_vjp(ddropped, *more)",
            "_pre_norm",
        ),
        Bug("one dropout mask for both branches", "numpy", "drop(feed_forward_keep)", "drop(attention_keep)"),
        Bug("always causal", "numpy", "config, mask, causal, layer", "config, mask, True, layer"),
        Bug("norms swapped", "torch", 'norm("feed_forward_norm", x)', 'norm("attention_norm", x)'),
        Bug("another eps", "torch", ", config.norm_eps)", ", 3e-4)"),
        Bug("always a layer norm", "torch", "config.norm, config.norm_eps", '"layer", config.norm_eps'),
        Bug("every layer is the first", "torch", "causal, layer, phases", "causal, 0, phases", needs=('alternating',)),
        Bug("phases not passed on", "numpy", "causal, layer, phases, documents)", "causal, layer, None, documents)", needs=('rope',)),
        Bug("mask not passed on", "torch", "config, mask, causal, layer", "config, None, causal, layer"),
        Bug(
            "feed-forward of the stream before attention",
            "torch",
            'x = residual(x, attention(norm("attention_norm", x)))\n'
            '        y, route = feeding(norm("feed_forward_norm", x))',
            'y, route = feeding(norm("feed_forward_norm", x)); x = residual(x, attention(norm("attention_norm", x)))',
        ),
        Bug("the balancing bias left out", "torch", "moe(x, own, config, routing,", 'moe(x, own | ({"router.bias": own["router.bias"] * 0} if config.router_bias else {}), config, routing,', needs=("balanced by a bias",)),
        Bug(
            "always gelu",
            "torch",
            "config.activation)",
            '{"swiglu": "geglu", "geglu": "swiglu"}.get(config.activation, "gelu"))',
        ),
    ),
)

COMPONENTS = (BLOCK,)
