"""Declarations of the search over units of thought: one side recomputes, the other keeps keys and values."""

import numpy_ref.thoughts.decoding as numpy_decoding
import torch_impl.thoughts.decoding as torch_decoding
from numpy_ref.config import parameter_shapes
from numpy_ref.thoughts.settings import KINDS, UnitConfig
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.components.stream import plain_config
from parity_tests.harness.declaration import Bug, Component


def draw_setting(source, *kinds):
    """(UnitConfig, ModelConfig, arrays): a question for a model that has learnt nothing."""
    kind = source.choice(*kinds)
    source.event(kind)
    sizes = {"hops": source.integer(1, 4), "per_step": source.integer(1, 2), "codes": source.integer(2, 4)}
    settings = UnitConfig(kind, nodes=3, ways=source.choice(1, 2) if kind == "span" else 1, **sizes)
    source.event("goal", settings.ways == 2)
    config = plain_config(source, vocab_size=settings.vocab_size, context=settings.context)
    arrays = {"question": source.rng.integers(0, 3, (source.integer(1, 3), settings.question)), "params": random_parameters(source.rng, parameter_shapes(config))}
    source.event("no units", settings.units == 0)
    source.event("longer units", settings.length > 1 and settings.units > 1)
    source.event("several units", settings.units > 1)
    return settings, config, arrays


def draw_beam(source):
    settings, config, arrays = draw_setting(source, *KINDS)
    most = {"span": 3, "code": settings.codes}.get(settings.kind, 1)
    beam, weight = source.integer(1, most), source.choice(0.0, 1.0, 20.0)
    source.event("beam", beam > 1)
    source.event("value", weight > 0 and beam > 1 and settings.units > 0)
    source.event("kept", beam > 1 and settings.units > 1)
    return source.case(arrays, config=config, settings=settings, beam=beam, weight=weight)


BEAM_SEARCH = Component(
    name="beam_search",
    numpy=numpy_decoding.beam_search,
    torch=torch_decoding.beam_search,
    draw=draw_beam,
    kernels=KERNELS,
    dtypes=("float64",),  # near ties are decided otherwise in fewer digits
    events=(*KINDS, "beam", "value", "kept", "no units", "longer units", "goal"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("scores of earlier units forgotten", "numpy", "scores.reshape(-1, 1) + np.take_along_axis", "np.take_along_axis", dtype="float64", needs=("kept",)),
        Bug("rows keep their own past", "numpy", "past_rows(past, rows)", "past_rows(past, np.sort(rows))", dtype="float64", needs=("kept",)),
        Bug("units not reordered", "numpy", "for parts in (units, [*words, read])", "for parts in (words, [*words, read])", dtype="float64", needs=("kept",)),
        Bug("worst first", "numpy", "np.argsort(-found,", "np.argsort(found,", dtype="float64", needs=("kept",)),
        Bug("value without its weight", "numpy", "weight * value.reshape", "0.0 * value.reshape", function="_finish", dtype="float64", needs=("value",)),
        Bug("any sure answer for the goal", "numpy", "if settings.wanted is None", "if True", function="_finish", dtype="float64", needs=("value", "goal")),
        Bug("greedy whatever the beam", "numpy", "beam if place % settings.length == 0 else 1", "1", dtype="float64", needs=("kept",)),
        Bug("keys and values not reordered", "torch", "past_rows(past, rows)", "past_rows(past, rows.sort()[0])", dtype="float64", needs=("kept",)),
        Bug("pauses for thoughts", "torch", 'settings.kind == "thought"', "False", function="_vector", dtype="float64", needs=("thought", "several units")),
        Bug("the first row's answer", "torch", "* width + best", "* width + 0 * best", function="_finish", dtype="float64", needs=("value",)),
        Bug("codes without their place", "torch", "+ _choices(settings).start\n            rows", "\n            rows", dtype="float64", needs=("code", "several units")),
    ),
)  # fmt: skip


def draw_best(source):
    settings, config, arrays = draw_setting(source, "span", "code", "thought")
    count, places = source.integer(1, 4), settings.units * settings.length
    shape = (count, len(arrays["question"]), places)
    source.event("several chains", count > 1 and places > 0)
    draws = source.rng.standard_normal((*shape, config.width)) if settings.kind == "thought" else source.rng.random(shape)
    return source.case(arrays | {"draws": draws}, config=config, settings=settings, weight=source.choice(1.0, 2.0), noise=source.choice(0.1, 1.0))


BEST_OF_N = Component(
    name="best_of_n chains",
    numpy=numpy_decoding.best_of_n,
    torch=torch_decoding.best_of_n,
    draw=draw_best,
    kernels=KERNELS,
    dtypes=("float64",),
    events=("span", "code", "thought", "several chains", "no units", "longer units"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("the same chain n times", "numpy", "draws[:, place, None]", "draws[:1, place, None]", dtype="float64", needs=("several chains", "code")),
        Bug("noise of another size", "numpy", "noise * draws", "draws", dtype="float64", needs=("several chains", "thought")),
        Bug("chains of different questions mixed", "numpy", "np.swapaxes(draws, 0, 1)", "draws", dtype="float64", needs=("several chains",)),
        Bug("the least sure chain", "numpy", "np.argmax(total", "np.argmin(total", function="_finish", dtype="float64", needs=("several chains",)),
        Bug("one unit further", "torch", "right=True)[:, 0]", "right=True)[:, 0] + 1", dtype="float64", needs=("several chains", "code")),
        Bug("no noise", "torch", "vector + noise *", "vector + 0 *", dtype="float64", needs=("several chains", "thought")),
    ),
)  # fmt: skip


def draw_verbalise(source):
    settings, config, arrays = draw_setting(source, "thought")
    hidden = source.array("hidden", (source.integer(1, 6), config.width), ("one", "heavy"))
    return source.case({"hidden": hidden, "params": arrays["params"]}, config=config, settings=settings)


VERBALISE = Component(
    name="verbalise",
    numpy=numpy_decoding.verbalise,
    torch=torch_decoding.verbalise,
    draw=draw_verbalise,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    bugs=(
        Bug("any id", "numpy", "[:, : settings.nodes]", "", dtype="float64"),
        Bug("the least likely", "numpy", "np.argmax(", "np.argmin(", dtype="float64"),
        Bug("one node fewer", "torch", ": settings.nodes", ": settings.nodes - 1", dtype="float64"),
        Bug("the last ids", "torch", ": settings.nodes]", "-settings.nodes :]", dtype="float64"),
    ),
)  # fmt: skip

COMPONENTS = (BEAM_SEARCH, BEST_OF_N, VERBALISE)
