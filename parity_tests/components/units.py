"""Declarations of units of thought, soft where the gradient is that of the value; straight through: test_thoughts.py."""

import numpy_ref.thoughts.model as numpy_model
import numpy_ref.thoughts.units as numpy_units
import torch_impl.thoughts.model as torch_model
import torch_impl.thoughts.units as torch_units
from numpy_ref.config import parameter_shapes
from numpy_ref.thoughts.settings import UnitConfig
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.components.stream import plain_config
from parity_tests.harness.declaration import Bug, Component


def draw_quantise(source):
    codes, width, leading = source.size(17, least=2), source.size(9), source.leading()
    arrays = {"scores": source.array("scores", (*leading, codes), ("one", "sixteen", "offset", "heavy", "zero")), "table": source.weight("table", (codes, width))}
    return source.case(arrays, straight_through=False)


QUANTISE = Component(
    name="quantise",
    numpy=numpy_units.quantise,
    torch=torch_units.quantise,
    draw=draw_quantise,
    differentiable=("scores", "table"),
    events=("heavy", "zero", "strided"),
    compiles=False,
    bugs=(
        Bug("scores without a gradient", "numpy", "softmax_vjp(dy @ table.T)", "0 * softmax_vjp(dy @ table.T)"),
        Bug("softmax taken for linear", "numpy", "softmax_vjp(dy @ table.T)", "dy @ table.T"),
        Bug("table without a gradient", "numpy", "flat.T @ dy", "0 * flat.T @ dy"),
        Bug("hard all the same", "numpy", "if straight_through else soft", "if True else soft"),
        Bug("half as sharp", "torch", "softmax(scores)", "softmax(0.5 * scores)"),
        Bug("table detached", "torch", "@ table", "@ table.detach()"),
    ),
)  # fmt: skip


def draw_unit(source):
    config = plain_config(source)
    kind = source.choice("thought", "code")
    source.event(kind)
    names = {"token_embedding.weight", "token_embedding.weight" if config.tie_embeddings else "output.weight"}
    shapes = {name: shape for name, shape in parameter_shapes(config).items() if name in names and kind == "code"}
    hidden = source.array("hidden", (source.integer(1, 4), config.width), ("one", "small", "heavy"))
    settings = UnitConfig(kind, nodes=3, codes=5)
    return source.case({"hidden": hidden, "params": random_parameters(source.rng, shapes)}, config=config, settings=settings, straight_through=False)


NEXT_UNIT = Component(
    name="next_unit",
    numpy=numpy_units.next_unit,
    torch=torch_units.next_unit,
    draw=draw_unit,
    differentiable=("hidden", "params"),
    kernels=KERNELS,
    events=("thought", "code", "tied"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("the first ids are the codes", "numpy", "logits[:, -settings.codes :], table", "logits[:, : settings.codes], table", needs=("code",)),
        Bug("scale of the embedding forgotten", "numpy", "config.embedding_scale * params", "params", needs=("code",)),
        Bug("a tied matrix has one gradient", "numpy", 'grads.get("token_embedding.weight", 0.0)', "0.0", needs=("code", "tied")),
        Bug("the choice has no gradient", "numpy", "dlogits[:, -settings.codes :] = dscores", "pass", needs=("code",)),
        Bug("codes in place of thoughts", "torch", 'settings.kind == "thought"', 'settings.kind != "thought"', needs=("code",)),
        Bug("thoughts of length one", "torch", "return hidden", "return hidden / hidden.norm(dim=-1, keepdim=True)", needs=("thought",)),
    ),
)  # fmt: skip


def draw_model(source):
    config = plain_config(source)
    length, kind = source.integer(2, 7), source.choice("thought", "code")
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
    return source.case({"tokens": tokens, "params": params}, config=config, settings=settings, places=places, straight_through=False)


UNIT_TRANSFORMER = Component(
    name="unit_transformer",
    numpy=numpy_model.unit_transformer,
    torch=torch_model.unit_transformer,
    draw=draw_model,
    differentiable=("params",),
    kernels=KERNELS,
    events=("thought", "code", "no thought", "two thoughts", "thoughts in a row", "words between", "thought at the end"),
    weight=8,
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

COMPONENTS = (QUANTISE, NEXT_UNIT, UNIT_TRANSFORMER)
