"""Declarations of units of thought. A code's gradient is that of h - sg(h), which a complex step sees as well."""

import dataclasses

import numpy as np

import numpy_ref.thoughts.model as numpy_model
import numpy_ref.thoughts.units as numpy_units
import torch_impl.thoughts.model as torch_model
import torch_impl.thoughts.units as torch_units
from numpy_ref.config import parameter_shapes
from numpy_ref.thoughts.settings import ArmConfig, UnitConfig
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.components.codes import codes_and_states
from parity_tests.components.stream import plain_config
from parity_tests.harness.declaration import Bug, Case, Component


def draw_unit(source):
    config = plain_config(source, width=8, heads=2)
    kind = source.choice("thought", "code")
    source.event(kind)
    hidden, table = codes_and_states(source, 8)
    settings = UnitConfig(kind, nodes=3, codes=len(table))
    config = dataclasses.replace(config, vocab_size=settings.vocab_size)
    words = source.rng.standard_normal((settings.nodes + 1, 8))
    params = {"token_embedding.weight": np.concatenate([words, table / config.embedding_scale])} if kind == "code" else {}
    return source.case({"hidden": hidden, "params": params}, config=config, settings=settings)


NEXT_UNIT = Component(
    name="next_unit",
    numpy=numpy_units.next_unit,
    torch=torch_units.next_unit,
    draw=draw_unit,
    differentiable=("hidden", "params"),
    dtypes=("float64", "float32"),
    events=("thought", "code"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("the choice has no gradient", "numpy", "return dhidden, table_vjp", "return 0 * dhidden, table_vjp", needs=("code",)),
        Bug("codes without a gradient", "numpy", "table_vjp(dtable)", "table_vjp(0 * dtable)", needs=("code",)),
        Bug("twice the gradient", "numpy", "(dy.copy(), {})", "(2 * dy, {})", needs=("thought",)),
        Bug("codes in place of thoughts", "torch", 'settings.kind == "thought"', 'settings.kind != "thought"', needs=("code",)),
        Bug("thoughts of length one", "torch", "return hidden if", "return hidden / hidden.norm(dim=-1, keepdim=True) if", needs=("thought",)),
    ),
)  # fmt: skip


def draw_model(source, *kinds):
    config = plain_config(source)
    length, kind = source.integer(2, 7), source.choice(*kinds)
    count = min(source.integer(0, 3), length - 1)
    places = tuple(sorted(source.rng.choice(length - 1, count, replace=False) + 1))
    source.event(kind)
    for event, happens in {
        "no thought": count == 0, "two thoughts": count > 1, "thought at the end": length - 1 in places,
        "thoughts in a row": any(b == a + 1 for a, b in zip(places, places[1:])),
        "words between": any(b > a + 1 for a, b in zip(places, places[1:])),
    }.items():  # fmt: skip
        source.event(event, happens)
    params = random_parameters(source.rng, parameter_shapes(config))
    tokens = source.tokens((source.integer(1, 2), length), config.vocab_size)
    settings, places = UnitConfig(kind, nodes=3, codes=5), tuple(int(place) for place in places)
    return source.case({"tokens": tokens, "params": params}, config=config, settings=settings, places=places)


def showcase(rng):
    """The batch on which arms are compared, at the last stage: three thoughts behind each question."""
    settings = UnitConfig("thought")
    config, places = ArmConfig().model("thoughts", settings), tuple(range(settings.question, settings.context))
    tokens = rng.integers(0, settings.nodes, (128, settings.context))
    static = {"config": config, "settings": settings, "places": places}
    return Case({"tokens": tokens, "params": random_parameters(rng, parameter_shapes(config))}, static)


def flops(case):
    """Each input once: 2 for each weight of a matrix, and attention's two products."""
    config, tokens = case.static["config"], case.arrays["tokens"]
    blocks = sum(p.size for name, p in case.arrays["params"].items() if p.ndim == 2 and name.startswith("blocks."))
    return tokens.size * (2 * blocks + 2 * config.layers * (tokens.shape[1] + 1) * config.width)


UNIT_STATES = Component(
    name="unit_states",
    numpy=numpy_model.unit_states,
    torch=torch_model.unit_states,
    draw=lambda source: draw_model(source, "thought"),
    differentiable=("params",),
    kernels=KERNELS,
    events=("thought", "no thought", "two thoughts", "thoughts in a row", "words between", "thought at the end"),
    weight=8,
    shapes={"showcase": showcase},
    flops=flops,
    bytes=lambda case, size: size * sum(p.size for p in case.arrays["params"].values()),
    compiles=False,
    bugs=(
        Bug("no gradient through thoughts", "numpy", "_add(grads, found)\n            dh = np.zeros_like", "dlast = 0 * dlast\n            dh = np.zeros_like", needs=("two thoughts",)),
        Bug("through the last thought alone", "numpy", "in reversed(passes)", "in passes[-1:]", needs=("two thoughts",)),
        Bug("passes in the wrong order", "numpy", "in reversed(passes)", "in passes", needs=("two thoughts",)),
        Bug("the token at a thought's place gets its gradient too", "numpy", "dx[:, place] = 0.0", "pass", needs=("two thoughts",)),
        Bug("earlier inputs without the gradient of a pass", "numpy", "dx[:, :place] += dbefore", "pass", needs=("two thoughts",)),
        Bug("the state at the place itself", "torch", "states[-1][:, -1]", "states[-1][:, 0]", needs=("words between",)),
        Bug("thoughts detached", "torch", "unit = next_unit(states[-1][:, -1],", "unit = next_unit(states[-1][:, -1].detach(),", needs=("two thoughts",)),
        Bug("thoughts are read as tokens", "torch", "if start:", "if False:", needs=("two thoughts",)),
        Bug("the past is dropped at a thought", "torch", "hidden_states(inputs, params, config, past)", "hidden_states(inputs, params, config, None)", needs=("two thoughts",)),
    ),
)  # fmt: skip

UNIT_TRANSFORMER = Component(
    name="unit_transformer",
    numpy=numpy_model.unit_transformer,
    torch=torch_model.unit_transformer,
    draw=lambda source: draw_model(source, "thought", "code"),
    differentiable=("params",),
    kernels=KERNELS,
    dtypes=("float64",),  # in fewer digits the nearest code may be another
    events=("thought", "code", "no thought", "two thoughts"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("the output head has no gradient", "numpy", "_add(grads, found)\n        return grads", "return grads", dtype="float64"),
        Bug("states without a gradient", "numpy", "states_vjp(dh)", "states_vjp(0 * dh)", dtype="float64"),
        Bug("codes as far as thoughts", "numpy", "config, settings)\n        x = np", 'config, settings)\n        unit = h[:, -1]\n        x = np', "unit_states", dtype="float64", needs=("code", "two thoughts")),
        Bug("no units", "torch", "settings, places), params, config)", "settings, ()), params, config)", dtype="float64", needs=("two thoughts",)),
        Bug("states detached", "torch", "settings, places), params, config)", "settings, places).detach(), params, config)", dtype="float64"),
    ),
)  # fmt: skip

COMPONENTS = (NEXT_UNIT, UNIT_STATES, UNIT_TRANSFORMER)
