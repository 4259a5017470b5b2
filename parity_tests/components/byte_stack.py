"""Declarations of the parts of byte models, and of the plain one."""

import numpy_ref.patching.byte_stack as numpy_stack
import torch_impl.patching.byte_stack as torch_stack
from numpy_ref.config import parameter_shapes as block_shapes
from numpy_ref.patching.config import PatchConfig, flops_per_byte, parameter_shapes
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.components.hash_ngrams import draw_bytes
from parity_tests.harness.declaration import Bug, Case, Component


def small_config(source, kind, **more):
    """A small PatchConfig of a kind, with n-grams half of the time."""
    width, heads = source.choice((4, 1), (4, 2), (8, 2))
    ngrams = source.choice("", "2", "1,3")
    source.event("n-grams", bool(ngrams))
    source.event("no n-grams", not ngrams)
    window = source.choice(0, 0, 2)
    source.event("window", window > 0)
    return PatchConfig(
        kind=kind, context=16, width=width, heads=heads, encoder_layers=1, decoder_layers=source.integer(1, 2) if kind == "bytes" else 1,
        window=window, global_layers=1, global_heads=heads, ngrams=ngrams, buckets=5, **{"global_width": 2 * width} | more,
    )  # fmt: skip


def parameters(source, config):
    return random_parameters(source.rng, parameter_shapes(config))


def short(source, most=7):
    tokens = draw_bytes(source)[:2, :most]
    source.event("one byte", tokens.shape[1] == 1)
    return tokens


def draw_embedding(source):
    config = small_config(source, "bytes")
    names = [name for name in parameter_shapes(config) if "embedding" in name or "ngrams" in name]
    shapes = {name: parameter_shapes(config)[name] for name in names}
    return source.case({"tokens": short(source), "params": random_parameters(source.rng, shapes)})


BYTE_EMBEDDING = Component(
    name="byte_embedding",
    numpy=numpy_stack.byte_embedding,
    torch=torch_stack.byte_embedding,
    draw=draw_embedding,
    differentiable=("params",),
    events=("n-grams", "no n-grams", "one byte"),
    weight=2,
    compiles=False,
    bugs=(
        Bug("n-grams in place of bytes", "numpy", "y = y + ngrams", "y = ngrams"),
        Bug("n-grams without a gradient", "numpy", "ngram_vjp(dy))", "ngram_vjp(0 * dy))"),
        Bug("bytes without a gradient", "numpy", "byte_vjp(dy)", "byte_vjp(0 * dy)"),
        Bug("n-grams twice", "torch", "x + hash_ngrams(tokens, tables)", "x + 2 * hash_ngrams(tokens, tables)"),
        Bug("bytes without a gradient in Torch", "torch", 'embedding(tokens, params["byte_embedding.weight"])', 'embedding(tokens, params["byte_embedding.weight"].detach())'),
    ),
)  # fmt: skip


def draw_stack(source):
    config = small_config(source, "bytes").stack("decoder")
    shapes = {name: shape for name, shape in block_shapes(config).items() if name.startswith("blocks.")}
    x = source.array("x", (source.integer(1, 2), source.size(9), config.width), ("one", "small", "sixteen"))
    source.event("two layers", config.layers == 2)
    return source.case({"x": x, "params": random_parameters(source.rng, shapes)}, config=config)


STACK = Component(
    name="stack",
    numpy=numpy_stack.stack,
    torch=torch_stack.stack,
    draw=draw_stack,
    differentiable=("x", "params"),
    kernels=KERNELS,
    events=("two layers", "window"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("every layer reads block 0", "numpy", 'f"blocks.{layer}"), config, layer', '"blocks.0"), config, layer'),
        Bug("places from 1", "numpy", "np.arange(x.shape[1])[None]", "3 * np.arange(x.shape[1])[None]"),
        Bug("no places", "numpy", "layer=layer, phases=phases", "layer=layer"),
        Bug("the order of the layers in the backward", "numpy", "in reversed(range(config.layers)):", "in range(config.layers):"),
        Bug("no places in Torch", "torch", "phases=phases", "phases=None"),
        Bug("one layer", "torch", "range(config.layers)", "range(1)"),
    ),
)  # fmt: skip


def draw_head(source):
    config = small_config(source, "bytes")
    params = random_parameters(source.rng, {"final_norm.weight": (config.width,), "output.weight": (256, config.width)})
    return source.case({"x": source.array("x", (2, source.size(9), config.width)), "params": params}, config=config)


BYTE_HEAD = Component(
    name="byte_head",
    numpy=numpy_stack.byte_head,
    torch=torch_stack.byte_head,
    draw=draw_head,
    differentiable=("x", "params"),
    kernels=KERNELS,
    events=("heavy", "zero"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("not normed", "numpy", "linear(normed,", "linear(x,"),
        Bug("another eps", "numpy", 'config.stack("decoder").norm_eps', "1e-2"),
        Bug("norm without a gradient", "numpy", '"final_norm.weight": dnorm', '"final_norm.weight": 0 * dnorm'),
        Bug("gradient of x not through the norm", "numpy", "return dx, {", "return dnormed, {"),
        Bug("norm's weight left out", "torch", 'rms_norm(x, params["final_norm.weight"]', 'rms_norm(x, params["final_norm.weight"] * 0 + 1'),
    ),
)  # fmt: skip


def draw_model(source):
    config = small_config(source, "bytes")
    return source.case({"tokens": short(source), "params": parameters(source, config)}, config=config)


def fixed(batch, length, **options):
    config = PatchConfig("bytes", **options)

    def build(rng):
        tokens = rng.integers(0, 256, (batch, length))
        return Case({"tokens": tokens, "params": random_parameters(rng, parameter_shapes(config))}, {"config": config})

    return build


def flops(case):
    return int(flops_per_byte(case.static["config"])) * case.arrays["tokens"].size


BYTE_TRANSFORMER = Component(
    name="byte_transformer",
    numpy=numpy_stack.byte_transformer,
    torch=torch_stack.byte_transformer,
    draw=draw_model,
    differentiable=("params",),
    kernels=KERNELS,
    events=("n-grams", "no n-grams", "one byte", "window"),
    weight=8,
    shapes={"showcase": fixed(16, 256, width=128, heads=4, decoder_layers=4, ngrams="3,4,6")},
    compiles=False,
    flops=flops,
    bytes=lambda case, size: size * sum(p.size for p in case.arrays["params"].values()),
    bugs=(
        Bug("embedding without a gradient", "numpy", "| embed_vjp(dx)", "| embed_vjp(0 * dx)"),
        Bug("the head's gradient twice", "numpy", "dx, grads = head_vjp(dy)", "dx, grads = head_vjp(2 * dy)"),
        Bug("the head's gradient alone", "numpy", "dx, blocks = stack_vjp(dx)", "_, blocks = stack_vjp(dx)"),
        Bug("blocks passed over", "torch", "x = stack(byte_embedding(tokens, params), ", "x = byte_embedding(tokens, params) + 0 * stack(byte_embedding(tokens, params), "),
        Bug("no gradient to the embedding", "torch", "x = stack(byte_embedding(tokens, params), ", "x = stack(byte_embedding(tokens, params).detach(), "),
    ),
)  # fmt: skip

UNDER = Component(
    name="under",
    numpy=numpy_stack.under,
    torch=torch_stack.under,
    draw=lambda source: source.case({}, prefix=source.choice("a", "a.b"), grads={"x": source.integer(0, 9), "y.z": 1}),
    exact=True,
    dtypes=("float64",),
    compiles=False,
    bugs=(
        Bug("without the point", "numpy", "{prefix}.{name}", "{prefix}{name}"),
        Bug("behind the name", "numpy", "{prefix}.{name}", "{name}.{prefix}"),
        Bug("the last part alone", "torch", "{prefix}.{name}", "{prefix}.{name[-1]}"),
        Bug("values lost", "torch", ": grad for", ": None for"),
    ),
)  # fmt: skip

COMPONENTS = (BYTE_EMBEDDING, STACK, BYTE_HEAD, BYTE_TRANSFORMER, UNDER)
