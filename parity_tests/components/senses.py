"""Declarations of words in context and of the model that tells two words apart."""

import numpy as np

import numpy_ref.context.evaluate as numpy_evaluate
import numpy_ref.context.initialise as numpy_initialise
import numpy_ref.context.senses as numpy_senses
import torch_impl.context.evaluate as torch_evaluate
import torch_impl.context.initialise as torch_initialise
import torch_impl.context.senses as torch_senses
from numpy_ref.context.config import KINDS, ContextConfig, parameter_shapes
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.harness.declaration import DTYPE, Bug, Component


def small_config(source):
    width, heads = source.choice((4, 1), (8, 2), (8, 4))
    config = ContextConfig(source.choice(*KINDS), vocab_size=7, pairs=3, width=width, heads=heads, span=source.integer(1, 5))
    source.event(config.kind)
    return config


def draw_contextual(source):
    config = small_config(source)
    names = ("word_embedding.weight", "final_norm.weight", "senses.weight")
    shapes = {name: shape for name, shape in parameter_shapes(config).items() if name not in names}
    x = source.array("x", (source.integer(1, 2), source.integer(2, 6), config.width), ("one", "small", "sixteen"))
    return source.case({"x": x, "params": random_parameters(source.rng, shapes)}, config=config)


CONTEXTUAL = Component(
    name="contextual",
    numpy=numpy_senses.contextual,
    torch=torch_senses.contextual,
    draw=draw_contextual,
    differentiable=("x", "params"),
    kernels=KERNELS,
    events=KINDS,
    weight=6,
    compiles=False,
    bugs=(
        Bug("the bag has no gradient", "numpy", "dx + bag_vjp(dc)", "dx + 0 * bag_vjp(dc)", needs=("bag",)),
        Bug("attention has no gradient", "numpy", "dx + dx_past,", "dx,", needs=("gate",)),
        Bug("no places", "numpy", "config.block, phases=phases)", "config.block)", needs=("plain",)),
        Bug("context and word exchanged", "numpy", "modulate(x, c, with_prefix", "modulate(c, x, with_prefix", needs=("film",)),
        Bug("the whole text in the bag", "torch", "past_mean(x, config.span, last)", "x.mean(1, keepdim=True).expand_as(x)", needs=("bag",)),
        Bug("heads forgotten", "torch", '"past"), config.heads, last)', '"past"), config.heads, last); context = context.roll(1, -1)', needs=("gate",)),
        Bug("context of the place before", "torch", "return film(own, context,", "return film(own, context.roll(1, 1),", needs=("film",)),
    ),
)  # fmt: skip


def draw_model(source):
    config = small_config(source)
    rows = source.integer(1, 4)
    arrays = {
        "tokens": source.tokens((rows, source.integer(2, 6)), 7), "pairs": source.rng.integers(0, 3, rows),
        "params": random_parameters(source.rng, parameter_shapes(config)),
    }  # fmt: skip
    source.event("a pair twice", len(set(arrays["pairs"].tolist())) < rows)
    return source.case(arrays, config=config)


SENSE_MODEL = Component(
    name="sense_model",
    numpy=numpy_senses.sense_model,
    torch=torch_senses.sense_model,
    draw=draw_model,
    differentiable=("params",),
    kernels=KERNELS,
    events=(*KINDS, "a pair twice", "repeated token"),
    weight=6,
    compiles=False,
    bugs=(
        Bug("the first word is judged", "numpy", "rms_norm(h[:, -1],", "rms_norm(h[:, 0],"),
        Bug("its gradient goes to the first word", "numpy", "dh[:, -1] = dlast", "dh[:, 0] = dlast"),
        Bug("a pair that comes twice keeps one gradient", "numpy", "np.add.at(dtable, pairs, dy[:, :, None] * y[:, None])", "dtable[pairs] = dy[:, :, None] * y[:, None]", needs=("a pair twice",)),
        Bug("words exchanged", "numpy", "(words @ y[:, :, None])[..., 0], vjp", "(words @ y[:, :, None])[:, ::-1, 0], vjp"),
        Bug("not normed", "numpy", "(words @ y[:, :, None])", "(words @ h[:, -1][:, :, None])"),
        Bug("every pair is the first", "torch", '["senses.weight"][pairs]', '["senses.weight"][pairs * 0]'),
    ),
)  # fmt: skip


INITIALISE = Component(
    name="context initialise",
    numpy=numpy_initialise.initialise,
    torch=torch_initialise.initialise,
    draw=lambda source: source.case({}, config=small_config(source), seed=source.integer(0, 2**40), dtype=DTYPE),
    dtypes=("float64", "float32"),
    events=KINDS,
    weight=4,
    compiles=False,
    bugs=(
        Bug("norms begin at 0", "numpy", "np.ones(shape, dtype)", "np.zeros(shape, dtype)"),
        Bug("random distances", "numpy", 'or "distance" in name', "", needs=("gate",)),
        Bug("words like matrices", "numpy", 'if name == "word_embedding.weight"', 'if name == ""'),
        Bug("deviation by the outputs", "torch", "math.sqrt(shape[-1])", "math.sqrt(shape[0])"),
        Bug("one stream for all", "torch", "STREAM_INIT + number", "STREAM_INIT"),
        Bug("seed ignored", "torch", "normal(seed,", "normal(0,"),
    ),
)  # fmt: skip


def draw_information(source):
    count, size = source.integer(1, 4), source.integer(1, 40)
    pairs, senses = source.rng.integers(0, count, size), source.rng.integers(0, 2, size)
    wrong = source.rng.random(size) < source.choice(0.0, 0.2, 0.5)
    guesses = np.where(wrong, 1 - senses, senses)
    source.event("several pairs", len(set(pairs.tolist())) > 1)
    source.event("always right", not wrong.any())
    source.event("both senses", len(set(senses.tolist())) == 2)
    return source.case({"pairs": pairs, "senses": senses, "guesses": guesses}, count=count)


def expected_size(arguments, dy, u):
    """Both logarithms of the Torch side are of counts, and their difference is small."""
    counts = len(arguments["pairs"])
    return {"value": np.asarray(4.0 * np.log(counts + 1.0))}


MUTUAL_INFORMATION = Component(
    name="mutual_information",
    numpy=numpy_evaluate.mutual_information,
    torch=torch_evaluate.mutual_information,
    draw=draw_information,
    dtypes=("float64",),
    events=("several pairs", "always right", "both senses"),
    cancellation=expected_size,
    compiles=False,
    bugs=(
        Bug("pairs mixed", "numpy", "4 * pairs + 2 * senses", "2 * senses", dtype="float64", needs=("several pairs", "both senses")),
        Bug("in bits", "numpy", "np.log(ratio)", "np.log2(ratio)", dtype="float64", needs=("both senses",)),
        Bug("one marginal", "numpy", " * np.sum(table, axis=1, keepdims=True)", "", dtype="float64", needs=("both senses",)),
        Bug("a sum, no mean", "numpy", "/ max(1, len(pairs))", "", dtype="float64", needs=("both senses",)),
        Bug("entropy in its place", "torch", "- torch.xlogy(cells, expected)", "", dtype="float64", needs=("both senses",)),
        Bug("marginals of all pairs", "torch", "cells.sum((1, 2), keepdim=True)", "cells.sum()", dtype="float64", needs=("several pairs", "both senses")),
    ),
)  # fmt: skip

COMPONENTS = (CONTEXTUAL, SENSE_MODEL, INITIALISE, MUTUAL_INFORMATION)
