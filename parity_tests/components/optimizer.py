"""Declarations of update and init_states: which parameter takes which optimiser, with which settings."""

import numpy as np
import torch

import numpy_ref.training.optimizer as numpy_optimizer
import torch_impl.training.optimizer as torch_optimizer
from numpy_ref.config import OPTIMIZERS, ModelConfig, TrainConfig, parameter_shapes
from numpy_ref.training.muon import matrices
from parity_tests.components import adamw, muon
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import fill
from parity_tests.harness.trees import tree_map


def draw_configs(source):
    width = source.integer(1, 7)
    heads, group = source.choice((1, 1), (2, 1), (2, 2), (3, 3))  # query heads, and how many share a key
    model = ModelConfig(
        vocab_size=source.integer(2, 9),
        context=3,
        layers=source.integer(1, 2),
        width=width,
        heads=heads,
        kv_heads=heads // group,
        head_width=source.choice(1, 2, width),
        activation=source.choice("gelu", "swiglu"),
        qk_norm=source.flag(),
        feed_forward=source.choice(width, 3 * width, source.integer(1, 9)),  # some matrices share a shape
        positions="learned",
        norm_bias=source.flag(),
        attention_bias=source.flag(),
        tie_embeddings=source.flag(),
    )
    train = TrainConfig(
        optimizer=source.choice(*OPTIMIZERS),
        momentum=source.choice(0.95, 0.5),
        beta1=source.choice(0.9, 0.5),
        beta2=source.choice(0.95, 0.999),
        eps=source.choice(1e-8, 1e-3),
        weight_decay=source.choice(0.0, 0.1, 3.0),
    )
    source.event(train.optimizer)
    source.event("tied", model.tie_embeddings)
    source.event("grouped queries", group > 1)
    source.event("gated", model.activation == "swiglu")
    source.event("large decay", train.weight_decay == 3.0)
    return model, train


def takes_muon(name, train):
    """The rule, written down a third time: matrices inside the blocks."""
    inner = ("query_key_value.weight", "output.weight", "up.weight", "down.weight")  # gate_up among them
    return train.optimizer == "muon" and name.startswith("blocks.") and name.endswith(inner)


def state(name, shape, train, step, rng):
    """A state in the middle of training, or the one before the first step."""
    m, v = rng.standard_normal((2, *shape)) * (step > 0)
    return {"momentum": m} if takes_muon(name, train) else {"step": step, "m": m, "v": v * v}


def case(model, train, step, rng, lr=0.01, magnitude="one", events=frozenset(), dtype="float64", seed=0):
    shapes = parameter_shapes(model)
    arrays = {
        "params": {name: rng.standard_normal(shape) for name, shape in shapes.items()},
        "grads": {name: fill(rng, shape, magnitude, dtype) for name, shape in shapes.items()},
        "states": {name: state(name, shape, train, step, rng) for name, shape in shapes.items()},
    }
    return Case(arrays, {"lr": lr, "train_config": train}, events, seed=seed)


def draw(source):
    model, train = draw_configs(source)
    step = source.choice(0, 0, 1, 10, 1000)
    magnitude = source.choice("one", "one", "tiny", "zero")
    source.event("first step", step == 0)
    source.event(f"{magnitude} gradients")
    lr, events = source.choice(1e-3, 0.1), frozenset(source.events)
    return case(model, train, step, source.rng, lr, magnitude, events, source.dtype, source.seed)


def lerp_error(arguments, dy, unit):
    """Moments and momentum by torch.lerp, as the two batched forms declare it."""
    grads, train = arguments["grads"], arguments["train_config"]
    inner = {name: state for name, state in arguments["states"].items() if takes_muon(name, train)}
    rest = {name: state for name, state in arguments["states"].items() if name not in inner}
    return muon.lerp_error(grads, inner, train.momentum) | adamw.lerp_error(
        grads, rest, arguments["lr"], train.beta1, train.beta2, train.eps
    )


def on_copies(function, arguments):
    """The Torch side works in place."""
    return function(**tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, arguments))


def shape(model, **settings):
    return lambda rng: case(model, TrainConfig(**settings), 3, rng)


def _numbers(case):
    return sum(param.size for param in case.arrays["params"].values())


def _operations(case):
    """AdamW's dozen for each number, and Muon's matrix products."""
    train = case.static["train_config"]
    shapes = {name: param.shape for name, param in case.arrays["params"].items()}
    params = case.arrays["params"]
    inner = [matrices(name, params[name], params) for name in shapes if takes_muon(name, train)]
    return 14 * _numbers(case) + sum(muon.products(matrix.shape) for stack in inner for matrix in stack)


UPDATE = Component(
    name="update",
    numpy=numpy_optimizer.update,
    torch=torch_optimizer.update,
    draw=draw,
    call=on_copies,
    cancellation=lerp_error,
    dtypes=("float64", "float32"),
    weight=5,
    events=(
        *OPTIMIZERS, "tied", "first step", "large decay", "zero gradients", "tiny gradients", "grouped queries", "gated",
    ),
    shapes={
        "small": shape(ModelConfig(vocab_size=7, layers=1, width=8, heads=2, feed_forward=16), optimizer="muon"),
        "showcase": shape(ModelConfig(), optimizer="muon"),
        "adamw": shape(ModelConfig(), optimizer="adamw"),
    },
    compiles=False,  # the time goes into fused kernels and batched products already
    flops=_operations,
    bytes=lambda case, size: 7 * size * _numbers(case),
    bugs=(
        Bug(
            "norms decay",
            "numpy",
            "config.weight_decay if adamw.decays(name, param.shape) else 0.0",
            "config.weight_decay",
            function="_adamw",
        ),
        Bug("betas exchanged", "numpy", "config.beta1, config.beta2", "config.beta2, config.beta1", function="_adamw"),
        Bug(
            "eps left at its default",
            "numpy",
            "config.beta2, config.eps, decay",
            "config.beta2, weight_decay=decay",
            function="_adamw",
        ),
        Bug("no decay under Muon", "numpy", ", config.weight_decay)", ")", function="_muon"),
        Bug(
            "three projections as one",
            "numpy",
            "muon.matrices(name, array, params) for",
            "[array] for",
            function="_muon",
        ),
        Bug("momentum of the last matrix alone", "numpy", "np.concatenate(momentum, axis=-2)", "np.concatenate([momentum[-1]] * len(momentum), axis=-2)[..., : params[name].shape[-2], :]", function="_muon", needs=("muon",)),
        Bug(
            "gradient of the neighbour",
            "numpy",
            "grads[name]",
            "grads[name] if param.ndim < 2 else grads[name][::-1]",
        ),
        Bug("Muon with AdamW's momentum", "torch", "c.momentum, c.weight_decay", "c.beta1, c.weight_decay"),
        Bug(
            "AdamW's betas left at their defaults",
            "torch",
            "lr, c.beta1, c.beta2, c.eps, c.weight_decay",
            "lr, eps=c.eps, weight_decay=c.weight_decay",
        ),
        Bug("eps forgotten", "torch", "c.beta2, c.eps, c.weight_decay", "c.beta2, weight_decay=c.weight_decay"),
        Bug(
            "only Muon's parameters move",
            "torch",
            "name not in matrices}",
            "name not in matrices and matrices == {}}",
        ),
        Bug(
            "Newton-Schulz in 16 bits",
            "torch",
            "c.weight_decay, dtype, orthogonal)",
            "c.weight_decay, params[next(iter(params))].bfloat16().dtype, orthogonal)",
        ),
    ),
)


def draw_states(source):
    model, train = draw_configs(source)
    params = {name: source.rng.standard_normal(shape) for name, shape in parameter_shapes(model).items()}
    if source.flag():  # no matrix: AdamW, though it lies in a block and is called a weight
        source.event("weight of three axes")
        params["blocks.0.attention.scale.weight"] = np.ones((2, 1, 3))
    return Case({"params": params}, {"train_config": train}, frozenset(source.events))


INIT_STATES = Component(
    name="init_states",
    numpy=numpy_optimizer.init_states,
    torch=torch_optimizer.init_states,
    draw=draw_states,
    dtypes=("float64", "float32"),
    exact=True,
    events=(*OPTIMIZERS, "tied", "weight of three axes"),
    compiles=False,
    bugs=(
        Bug("Muon for the output head", "numpy", 'name.startswith("blocks.") and ', "", function="_takes_muon"),
        Bug("Muon for biases and norms", "numpy", " and len(shape) >= 2", "", function="_takes_muon"),
        Bug(
            "Muon whatever the config says",
            "numpy",
            'train_config.optimizer == "muon" and ',
            "",
            function="_takes_muon",
        ),
        Bug("Muon for more than matrices", "torch", "param.ndim >= 2", "param.ndim >= 1", function="_takes_muon"),
        Bug("Muon for the embeddings", "torch", r"blocks\..*\.weight", r".*\.weight", function="_takes_muon"),
        Bug(
            "Muon for nothing",
            "torch",
            'train_config.optimizer == "muon"',
            'train_config.optimizer == "Muon"',
            function="_takes_muon",
        ),
        Bug(
            "optimisers exchanged",
            "torch",
            "muon if _takes_muon(name, param, train_config) else adamw",
            "adamw if _takes_muon(name, param, train_config) else muon",
        ),
    ),
)

COMPONENTS = (UPDATE, INIT_STATES)
