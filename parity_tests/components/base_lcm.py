"""Declarations of what all concept models read with, of Base-LCM, and of its loss."""

import numpy_ref.concepts.base_lcm as numpy_base
import torch_impl.concepts.base_lcm as torch_base
from numpy_ref.concepts.config import ConceptConfig, context_shapes, parameter_shapes
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.harness.declaration import Bug, Case, Component


def small_concepts(source, kind, **more):
    """A small ConceptConfig of a kind."""
    width, heads = source.choice((4, 1), (4, 2), (8, 2))
    layers, concept = source.integer(1, 2), source.size(5, least=2)
    source.event("two layers", layers == 2)
    return ConceptConfig(kind=kind, concept=concept, context=9, width=width, heads=heads, layers=layers, **more)


def draw_x(source, config):
    shape = (source.integer(1, 2), source.integer(1, 7), config.concept)
    source.event("one sentence", shape[1] == 1)
    return source.array("x", shape, ("one", "small", "sixteen"))


def draw(shapes):
    def build(source):
        config = small_concepts(source, "base")
        params = random_parameters(source.rng, shapes(config))
        return source.case({"x": draw_x(source, config), "params": params}, config=config)

    return build


CONTEXTUALISE = Component(
    name="contextualise",
    numpy=numpy_base.contextualise,
    torch=torch_base.contextualise,
    draw=draw(context_shapes),
    differentiable=("x", "params"),
    kernels=KERNELS,
    events=("one sentence", "two layers"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("not normed", "numpy", "return y, vjp", "return h, vjp"),
        Bug("blocks passed over", "numpy", 'rms_norm(h, params["context_norm.weight"]', 'rms_norm(embedded, params["context_norm.weight"]'),
        Bug("norm without a gradient", "numpy", '"context_norm.weight": dnorm', '"context_norm.weight": 0 * dnorm'),
        Bug("gradient past the blocks", "numpy", "input_vjp(dembedded)", "input_vjp(dh)"),
        Bug("another eps", "torch", "own.norm_eps", "1e-1"),
        Bug("blocks passed over in Torch", "torch", 'stack(linear(x, params["input.weight"]), with_prefix(params, "context"), own)', 'linear(x, params["input.weight"])'),
    ),
)  # fmt: skip


def showcase(rng):
    config = ConceptConfig()
    x = rng.standard_normal((32, config.context, config.concept))
    return Case({"x": x, "params": random_parameters(rng, parameter_shapes(config))}, {"config": config})


def flops(case):
    config, rows = case.static["config"], case.arrays["x"].size // case.arrays["x"].shape[-1]
    weights = sum(p.size for p in case.arrays["params"].values() if p.ndim == 2)
    return rows * (2 * weights + 2 * config.width * config.layers * (case.arrays["x"].shape[1] + 1))


BASE = Component(
    name="base_lcm",
    numpy=numpy_base.base_lcm,
    torch=torch_base.base_lcm,
    draw=draw(parameter_shapes),
    differentiable=("x", "params"),
    kernels=KERNELS,
    events=("one sentence", "two layers"),
    weight=8,
    shapes={"showcase": showcase},
    compiles=False,
    flops=flops,
    bytes=lambda case, size: size * sum(p.size for p in case.arrays["params"].values()),
    bugs=(
        Bug("no bias", "numpy", 'linear(h, params["output.weight"], params["output.bias"])', 'linear(h, params["output.weight"], 0 * params["output.bias"])'),
        Bug("bias without a gradient", "numpy", '"output.bias": dbias', '"output.bias": 0 * dbias'),
        Bug("a residual that is none", "numpy", "return y, vjp", "return y + x, vjp"),
        Bug("context without a gradient", "numpy", "context_vjp(dh)", "context_vjp(0 * dh)"),
        Bug("no bias in Torch", "torch", 'params["output.bias"])', '0 * params["output.bias"])'),
        Bug("no gradient to the context", "torch", "linear(contextualise(x, params, config),", "linear(contextualise(x, params, config).detach(),"),
    ),
)  # fmt: skip


def draw_distance(source):
    shape = (*source.leading(), source.size(17))
    return source.case({name: source.array(name, shape, ("one", "small", "sixteen", "zero")) for name in ("prediction", "target")})


SQUARED_DISTANCE = Component(
    name="squared_distance",
    numpy=numpy_base.squared_distance,
    torch=torch_base.squared_distance,
    draw=draw_distance,
    differentiable=("prediction",),
    outputs={"value": {"bfloat16": "float32", "float16": "float32"}},
    inside="float32",
    events=("zero", "sixteen"),
    compiles=False,
    bugs=(
        Bug("the mean over features", "numpy", "apart.size // apart.shape[-1]", "apart.size"),
        Bug("the sum over places", "numpy", "apart.size // apart.shape[-1]", "1"),
        Bug("half of it", "numpy", "np.sum(apart * apart) / places", "0.5 * np.sum(apart * apart) / places"),
        Bug("gradient the wrong way", "numpy", "prediction - target", "target - prediction"),
        Bug("gradient without its two", "numpy", "dy * 2.0", "dy"),
        Bug("mean over features in Torch", "torch", ".sum(-1).mean()", ".mean()"),
        Bug("distances, not squared", "torch", ".square().sum(-1)", ".square().sum(-1).sqrt()"),
    ),
)  # fmt: skip

COMPONENTS = (CONTEXTUALISE, BASE, SQUARED_DISTANCE)
