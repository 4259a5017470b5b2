"""Declarations of the sentence auto-encoder: pooling, encoder, decoder."""

import numpy as np

import numpy_ref.concepts.autoencoder as numpy_autoencoder
import torch_impl.concepts.autoencoder as torch_autoencoder
from numpy_ref.concepts.config import END, VOCABULARY, AutoencoderConfig, decoder_shapes, encoder_shapes
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.harness.declaration import Bug, Case, Component


def draw_lengths(source, batch, length):
    lengths = source.rng.integers(1, length + 1, batch)
    source.event("padding", bool((lengths < length).any()))
    source.event("one byte", bool((lengths == 1).any()))
    return lengths


def draw_pool(source):
    batch, length = source.integer(1, 3), source.size(17)
    x = source.array("x", (batch, length, source.size(9)), ("one", "small", "sixteen", "heavy", "offset"))
    return source.case({"x": x, "lengths": draw_lengths(source, batch, length)})


MEAN_POOL = Component(
    name="mean_pool",
    numpy=numpy_autoencoder.mean_pool,
    torch=torch_autoencoder.mean_pool,
    draw=draw_pool,
    differentiable=("x",),
    inside="float32",
    events=("padding", "one byte", "heavy"),
    compiles=False,
    bugs=(
        Bug("padding counts in the denominator", "numpy", "1.0 / lengths[:, None]", "1.0 / x.shape[1]"),
        Bug("padding counts", "numpy", "np.where(np.arange(x.shape[1]) < lengths[:, None],", "np.where(np.arange(x.shape[1]) < x.shape[1] + 0 * lengths[:, None],"),
        Bug("one place too many", "numpy", "< lengths[:, None],", "<= lengths[:, None],", needs=("padding",)),
        Bug("gradient of the sum", "numpy", "dy[:, None] * share", "dy[:, None] * (share > 0)"),
        Bug("the sum", "torch", "inside / lengths[:, None].to(wide)", "inside.to(wide)"),
        Bug("the last places", "torch", "torch.arange(x.shape[1], device=x.device)", "torch.arange(x.shape[1] - 1, -1, -1, device=x.device)"),
    ),
)  # fmt: skip


def small_autoencoder(source):
    width, heads = source.choice((4, 1), (4, 2), (8, 2))
    return AutoencoderConfig(length=12, width=width, heads=heads, layers=source.integer(1, 2), concept=source.size(5, least=2))


def draw_sentences(source, most=6):
    """Bytes, behind each sentence what ends it; (tokens, lengths)."""
    batch, length = source.integer(1, 3), source.integer(1, most)
    lengths = draw_lengths(source, batch, length)
    tokens = source.rng.integers(0, 256, (batch, length))
    tokens[np.arange(length) >= lengths[:, None]] = END
    return tokens, lengths


def draw_encode(source):
    config = small_autoencoder(source)
    tokens, lengths = draw_sentences(source)
    source.event("two layers", config.layers == 2)
    params = random_parameters(source.rng, encoder_shapes(config))
    return source.case({"tokens": tokens, "lengths": lengths, "params": params}, config=config)


def fixed(shapes, **arrays):
    config = AutoencoderConfig()

    def build(rng):
        tokens = rng.integers(0, 256, (64, config.length))
        named = {name: make(rng) for name, make in arrays.items()}
        return Case(named | {"tokens": tokens, "params": random_parameters(rng, shapes(config))}, {"config": config})

    return build


def flops(case):
    """Of the products with weights and of attention; the table is looked up."""
    shapes, rows = case.arrays["params"], case.arrays["tokens"].size
    weights = sum(p.size for name, p in shapes.items() if p.ndim == 2 and name != "byte_embedding.weight")
    config = case.static["config"]
    return rows * (2 * weights + 4 * config.width * config.layers * case.arrays["tokens"].shape[1])


ENCODE = Component(
    name="encode_sentences",
    numpy=numpy_autoencoder.encode_sentences,
    torch=torch_autoencoder.encode_sentences,
    draw=draw_encode,
    differentiable=("params",),
    kernels=KERNELS,
    events=("padding", "one byte", "two layers"),
    weight=8,
    shapes={"showcase": fixed(encoder_shapes, lengths=lambda rng: rng.integers(20, 49, 64))},
    compiles=False,
    flops=flops,
    bytes=lambda case, size: size * sum(p.size for p in case.arrays["params"].values()),
    bugs=(
        Bug("bytes see those before them alone", "numpy", "causal=False", "causal=True"),
        Bug("padding is seen", "numpy", "own, stack_config, mask,", "own, stack_config, None,", needs=("padding",)),
        Bug("padding counts in the mean", "numpy", "mean_pool(normed, lengths)", "mean_pool(normed, 0 * lengths + tokens.shape[1])", needs=("padding",)),
        Bug("no places", "numpy", "layer=layer, phases=phases", "layer=layer"),
        Bug("concepts of any size", "numpy", "grads[\"to_concept.weight\"], _ = concept_vjp(size_vjp(dy)[0])", "grads[\"to_concept.weight\"], _ = concept_vjp(dy)"),
        Bug("bytes without a gradient", "numpy", "= embed_vjp(dx)", "= embed_vjp(0 * dx)"),
        Bug("every layer reads block 0", "torch", 'f"encoder.blocks.{layer}"', '"encoder.blocks.0"', needs=("two layers",)),
        Bug("no last norm", "torch", "return rms_norm(z, torch.ones_like(z[0]), own.norm_eps)", "return z"),
        Bug("padding is seen in Torch", "torch", "own, mask, causal", "own, None, causal", needs=("padding",)),
    ),
)  # fmt: skip


def draw_decode(source):
    config = small_autoencoder(source)
    tokens, _ = draw_sentences(source)
    source.event("two layers", config.layers == 2)
    source.event("first token alone", tokens.shape[1] == 1)
    concepts = source.array("concepts", (len(tokens), config.concept), ("one", "small", "sixteen"))
    params = random_parameters(source.rng, decoder_shapes(config))
    return source.case({"concepts": concepts, "tokens": tokens, "params": params}, config=config)


DECODE = Component(
    name="decode_logits",
    numpy=numpy_autoencoder.decode_logits,
    torch=torch_autoencoder.decode_logits,
    draw=draw_decode,
    differentiable=("concepts", "params"),
    kernels=KERNELS,
    events=("padding", "two layers", "first token alone"),
    weight=8,
    shapes={"showcase": fixed(decoder_shapes, concepts=lambda rng: rng.standard_normal((64, VOCABULARY // 8)))},
    compiles=False,
    flops=flops,
    bytes=lambda case, size: size * sum(p.size for p in case.arrays["params"].values()),
    bugs=(
        Bug("the token itself is seen", "numpy", "np.concatenate([np.zeros_like(said, shape=(len(said), 1, said.shape[2])), said], axis=1)", "np.concatenate([said, np.zeros_like(said, shape=(len(said), 1, said.shape[2]))], axis=1)"),
        Bug("the concept at the first place alone", "numpy", "+ meant[:, None]\n", "+ meant[:, None] * (np.arange(tokens.shape[1]) == 0)[:, None]\n"),
        Bug("the concept's gradient from the first place alone", "numpy", "np.sum(dx, axis=1)", "dx[:, 0]"),
        Bug("gradient of tokens one place late", "numpy", "embed_vjp(dx[:, 1:])", "embed_vjp(dx[:, :-1])"),
        Bug("the concept is not heard", "torch", "linear(concepts,", "linear(0 * concepts,"),
        Bug("concepts without a gradient", "torch", "linear(concepts,", "linear(concepts.detach(),"),
        Bug("tokens are not heard", "torch", "embedding(tokens[:, :-1],", "embedding(0 * tokens[:, :-1],"),
    ),
)  # fmt: skip

COMPONENTS = (MEAN_POOL, ENCODE, DECODE)
