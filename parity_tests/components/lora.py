"""Declarations of low_rank, initial_adapters, merge and unmerge."""

import numpy as np

import numpy_ref.sft.lora as numpy_lora
import torch_impl.sft.lora as torch_lora
from numpy_ref.config import ModelConfig, parameter_shapes
from numpy_ref.rng import STREAM_ADAPTER
from numpy_ref.sft.adapters import LoRA, adapted, pair, trained_shapes
from parity_tests.components.rng import phase_error
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    outputs, inputs, rank = source.size(17), source.size(17), source.integer(1, 5)
    source.event("rank 1", rank == 1)
    source.event("wider than it is narrow", rank > min(outputs, inputs))
    arrays = {
        "weight": source.array("weight", (outputs, inputs), ("one", "small", "sixteen", "zero")),
        "a": source.array("a", (rank, inputs), ("one", "small", "zero")),
        "b": source.array("b", (outputs, rank), ("one", "small", "zero")),
    }
    return source.case(arrays, scale=source.choice(0.5, 1.0, 8.0))


LOW_RANK = Component(
    name="low_rank",
    numpy=numpy_lora.low_rank,
    torch=torch_lora.low_rank,
    draw=draw,
    differentiable=("weight", "a", "b"),
    events=("rank 1", "wider than it is narrow", "zero", "strided"),
    shapes={"showcase": lambda rng: Case({"weight": rng.standard_normal((384, 128)), "a": rng.standard_normal((8, 128)), "b": rng.standard_normal((384, 8))}, {"scale": 2.0})},
    flops=lambda case: 2 * case.arrays["weight"].size * len(case.arrays["a"]),
    bytes=lambda case, size: 2 * size * case.arrays["weight"].size,
    bugs=(
        Bug("scale forgotten", "numpy", "weight + scale * (b @ a)", "weight + b @ a"),
        Bug("scale squared in the gradient of B", "numpy", "scale * (dy @ a.T)", "scale * scale * (dy @ a.T)"),
        Bug("scale forgotten in the gradient of A", "numpy", "scale * (b.T @ dy)", "b.T @ dy"),
        Bug("weight gets no gradient", "numpy", "dy.copy()", "0 * dy"),
        Bug("only the adapter", "numpy", "weight + scale", "0 * weight + scale"),
        Bug("scale forgotten in Torch", "torch", "alpha=scale", "alpha=1"),
        Bug("subtracted", "torch", "alpha=scale", "alpha=-scale"),
        Bug("A detached", "torch", "torch.addmm(weight, b, a,", "torch.addmm(weight, b, a.detach(),"),
    ),
)


def draw_model(source, trained):
    """A small model's weights, what is trained beside them, and the settings."""
    config = ModelConfig(
        vocab_size=7, context=8, layers=source.integer(1, 2), width=4 * source.integer(1, 2), heads=2, kv_heads=source.choice(0, 1),
        feed_forward=8, activation=source.choice("gelu", "swiglu"), tie_embeddings=source.flag(), attention_bias=source.flag(),
    )  # fmt: skip
    targets = source.choice("blocks", "attention", "feed_forward.down,attention.output")
    whole = source.choice("", "token_embedding,output", "output")
    targets += "" if config.tie_embeddings or "output" in whole or not source.flag() else ",output"
    lora = LoRA(source.integer(1, 4), source.choice(1.0, 8.0), targets, whole)
    source.event("tied", config.tie_embeddings)
    source.event("adapted head", "output.weight" in adapted(config, lora))
    source.event("trained whole", bool(whole))
    weights = {name: source.weight("weights", shape) for name, shape in parameter_shapes(config).items()}
    params = {name: source.rng.standard_normal(shape) for name, shape in trained_shapes(config, lora).items()} if trained else None
    return config, lora, weights, params


def draw_initial(source):
    config, lora, weights, _ = draw_model(source, False)
    return source.case({"params": weights}, config=config, lora=lora, seed=source.integer(0, 99))


def angles(arguments, dy, unit):
    """The rounding of the angle in every normal number."""
    config, lora, seed = arguments["config"], arguments["lora"], arguments["seed"]
    found = {}
    for number, (name, shape) in enumerate(trained_shapes(config, lora).items()):
        drawn = name.endswith("lora_a")
        found[f"value[{name}]"] = phase_error(seed, STREAM_ADAPTER + number, shape) / np.sqrt(shape[1]) if drawn else np.zeros(shape)
    return found


EVENTS = ("tied", "adapted head", "trained whole")
INITIAL_ADAPTERS = Component(
    name="initial_adapters",
    numpy=numpy_lora.initial_adapters,
    torch=torch_lora.initial_adapters,
    draw=draw_initial,
    inside="float64",
    elementwise=True,
    cancellation=angles,
    events=EVENTS,
    compiles=False,
    weight=2,
    bugs=(
        Bug("both matrices 0", "numpy", "(normal(seed, STREAM_ADAPTER + number, shape) / np.sqrt(shape[1]))", "(0 * normal(seed, STREAM_ADAPTER + number, shape))"),
        Bug("B drawn too", "numpy", "name.endswith(adapters.A)", "True"),
        Bug("every A alike", "numpy", "STREAM_ADAPTER + number", "STREAM_ADAPTER"),
        Bug("deviation of the rank", "numpy", "np.sqrt(shape[1])", "np.sqrt(shape[0])"),
        Bug("whole parameters begin at 0", "numpy", "params[name].copy()", "0 * params[name]", needs=("trained whole",)),
        Bug("deviation 1", "torch", "/ math.sqrt(shape[1])", "", dtype="float32"),
        Bug("seed ignored", "torch", "normal(seed,", "normal(0,"),
        Bug("A is 0", "torch", "name.endswith(adapters.B)", "True"),
    ),
)


def draw_merge(source):
    config, lora, weights, params = draw_model(source, True)
    return source.case({"frozen": weights, "params": params}, config=config, lora=lora)


def draw_unmerge(source):
    config, lora, weights, params = draw_model(source, True)
    return source.case({"weights": weights, "params": params}, config=config, lora=lora)


def one_rounding(arguments, dy, unit):
    """The sum is rounded once, whatever cancels: to its own size and a unit of the larger of its terms in float64."""
    weights, params = arguments.get("frozen", arguments.get("weights")), arguments["params"]
    found = {f"value[{name}]": np.zeros(value.shape) for name, value in weights.items()}
    for name in adapted(arguments["config"], arguments["lora"]):
        a, b = (np.abs(params[part]) for part in pair(name))
        found[f"value[{name}]"] = np.abs(weights[name]) + arguments["lora"].scale * (b @ a)
    return found


def _merging(name, numpy, torch, draw, bugs):
    return Component(
        name=name, numpy=numpy, torch=torch, draw=draw, inside="float64", cancellation=one_rounding, events=EVENTS,
        dtypes=("float64", "float32"), compiles=False, weight=2, bugs=bugs,
    )  # fmt: skip


MERGE = _merging("merge", numpy_lora.merge, torch_lora.merge, draw_merge, (
    Bug("adapters forgotten", "numpy", "lora.scale", "0.0", "adapt"),
    Bug("whole parameters forgotten", "numpy", "params.get(name, value)", "value", "adapt", needs=("trained whole",)),
    Bug("alpha without the rank", "numpy", "lora.scale", "lora.alpha", "adapt"),
    Bug("added in 16 bits", "numpy", "value.astype(np.float64) for name, value in group", "value.astype(np.float16) for name, value in group"),
    Bug("subtracted", "torch", "lora, lora.scale)", "lora, -lora.scale)"),
    Bug("whole parameters forgotten in Torch", "torch", "frozen | {name: value for name, value in params.items() if name in frozen}", "frozen", needs=("trained whole",)),
))  # fmt: skip
UNMERGE = _merging("unmerge", numpy_lora.unmerge, torch_lora.unmerge, draw_unmerge, (
    Bug("added", "numpy", "- lora.scale * (b @ a)", "+ lora.scale * (b @ a)"),
    Bug("scale forgotten", "numpy", "lora.scale * (b @ a)", "b @ a"),
    Bug("first matrix alone", "numpy", "for name in adapters.adapted(config, lora):", "for name in adapters.adapted(config, lora)[:1]:"),
    Bug("added in Torch", "torch", "-lora.scale)", "lora.scale)"),
))  # fmt: skip

COMPONENTS = (LOW_RANK, INITIAL_ADAPTERS, MERGE, UNMERGE)
