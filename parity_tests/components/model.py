"""Declarations of the reward model: reward_model, scalar_head, with_reward_head and ensemble."""

import numpy as np

import numpy_ref.reward.model as numpy_model
import torch_impl.reward.model as torch_model
from numpy_ref.config import NORM_POSITIONS, NORMS, POSITIONS, ModelConfig, parameter_shapes
from numpy_ref.reward.rows import padded
from numpy_ref.rng import STREAM_REWARD
from parity_tests.components.block import KERNELS, draw_config, random_parameters
from parity_tests.components.rng import phase_error
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    config = draw_config(
        source,
        vocab_size=source.size(17, least=2),
        context=source.integer(2, 9),
        layers=source.integer(1, 2),
        positions=source.choice(*POSITIONS),
        tie_embeddings=source.flag(),
        logit_softcap=source.choice(0.0, 4.0),
        dropout=0.0,
        output="reward",
    )
    together = source.integer(0, 3) == 0
    lengths = [source.integer(1, config.context // 2 if together else config.context) for _ in range(source.integer(1, 3))]
    texts = [source.tokens((length,), config.vocab_size) for length in lengths]
    left = source.flag()
    tokens, documents, ends = packed(texts) if together and sum(lengths) <= config.context else padded(texts, left)
    source.event("texts share a row", len(tokens) < len(texts))
    source.event("padding on the left", left and len(tokens) == len(texts) > 1 and len(set(lengths)) > 1)
    source.event("padding on the right", not left and len(set(lengths)) > 1)
    alone = not left and len(tokens) == len(texts) and source.flag()
    source.event("no documents", alone)
    source.event("tied", config.tie_embeddings)
    source.event("real token 0 at the end", any(text[-1] == 0 for text in texts))
    arrays = {
        "tokens": tokens,
        "ends": ends,
        "params": random_parameters(source.rng, parameter_shapes(config)),
        "documents": None if alone else documents,
    }
    return source.case(arrays, config=config, recompute=source.choice(False, False, True))


def packed(texts):
    """All texts in one row."""
    lengths = [len(text) for text in texts]
    ends = np.stack((np.zeros(len(texts), np.int64), np.cumsum(lengths) - 1), axis=1)
    return np.concatenate(texts)[None], np.repeat(np.arange(len(texts)), lengths)[None], ends


SMALL = ModelConfig(vocab_size=11, context=8, layers=1, width=16, heads=2, feed_forward=32, output="reward")


def fixed(rng):
    tokens, _, ends = padded([rng.integers(0, 11, 8), rng.integers(0, 11, 5)])
    return Case({"tokens": tokens, "ends": ends, "params": random_parameters(rng, parameter_shapes(SMALL))}, {"config": SMALL})


WIDE = {"value": {"bfloat16": "float32", "float16": "float32"}}

REWARD_MODEL = Component(
    name="reward_model",
    numpy=numpy_model.reward_model,
    torch=torch_model.reward_model,
    draw=draw,
    differentiable=("params",),
    kernels=KERNELS,
    outputs=WIDE,
    weight=6,
    shapes={"small": fixed},
    compiles=False,  # the transformer inside is compiled on its own
    events=(
        *NORMS, *NORM_POSITIONS, *POSITIONS, "texts share a row", "padding on the left", "padding on the right",
        "no documents", "tied", "real token 0 at the end",
    ),
    bugs=(
        Bug("read at the last column", "numpy", "row, column = ends[:, 0], ends[:, 1]", "row, column = ends[:, 0], 0 * ends[:, 1] - 1"),
        Bug("read one token early", "numpy", "row, column = ends[:, 0], ends[:, 1]", "row, column = ends[:, 0], np.maximum(0, ends[:, 1] - 1)"),
        Bug("read at the first token", "numpy", "row, column = ends[:, 0], ends[:, 1]", "row, column = ends[:, 0], 0 * ends[:, 1]"),
        Bug("padding on the left is seen", "numpy", "documents=documents,", "documents=None,"),
        Bug("gradient at the last column", "numpy", "dx[row, column] = dlast", "dx[row, -1] = dlast"),
        Bug("bias without a gradient", "numpy", '"reward.bias": dbias', '"reward.bias": 0.0 * dbias'),
        Bug("head without a gradient", "numpy", '"reward.weight": dweight', '"reward.weight": 0.0 * dweight'),
        Bug("rows of another width", "torch", "ends[:, 0] * tokens.shape[1] + ends[:, 1]", "ends[:, 0] * tokens.shape[0] + ends[:, 1]"),
        Bug("found by a padding id", "torch", "ends[:, 0] * tokens.shape[1] + ends[:, 1]", "ends[:, 0] * tokens.shape[1] + ((tokens != 0).sum(1)[ends[:, 0]] - 1).clamp(min=0)"),
        Bug("texts in a row see each other", "torch", "documents=documents,", "documents=None,"),
        Bug("mean over the text", "torch", "last = x.flatten(0, 1).index_select(0, ends[:, 0] * tokens.shape[1] + ends[:, 1])", "last = x.mean(1)[ends[:, 0]]"),
    ),
)


def draw_head(source):
    rows, width = source.size(9), source.size(33)
    arrays = {
        "x": source.array("x", (rows, width), ("one", "small", "sixteen", "ties", "heavy")),
        "weight": source.weight("weight", (1, width)),
        "bias": source.weight("bias", (1,)),
    }
    return source.case(arrays)


SCALAR_HEAD = Component(
    name="scalar_head",
    numpy=numpy_model.scalar_head,
    torch=torch_model.scalar_head,
    draw=draw_head,
    differentiable=("x", "weight", "bias"),
    outputs=WIDE,
    inside="float32",
    events=("heavy", "strided"),
    compiles=False,
    bugs=(
        Bug("no bias", "numpy", "x @ weight[0] + bias", "x @ weight[0] + 0 * bias"),
        Bug("bias from the mean", "numpy", "np.sum(dy)[None]", "np.mean(dy)[None]"),
        Bug("one gradient for all rows", "numpy", "dy[:, None] * weight", "dy[0] * weight + 0 * x"),
        Bug("mean over rows", "numpy", "(dy @ x)[None]", "(dy @ x)[None] / len(x)"),
        Bug("rewards rounded to 16 bits", "torch", "x.to(wide) @ weight[0].to(wide) + bias.to(wide)", "(x @ weight[0] + bias).to(wide)", dtype="bfloat16"),
        Bug("product in 16 bits", "torch", "x.to(wide) @ weight[0].to(wide)", "(x @ weight[0]).to(wide)", dtype="bfloat16"),
    ),
)


def draw_start(source):
    tied = source.flag()
    config = ModelConfig(
        vocab_size=5, context=4, layers=1, width=2 * source.integer(1, 20), heads=1, feed_forward=3, tie_embeddings=tied,
        output="reward",
    )  # fmt: skip
    shapes = {"token_embedding.weight": (5, config.width), "final_norm.weight": (config.width,)}
    if not tied:
        shapes["output.weight"] = (5, config.width)
    source.event("tied", tied)
    params = {name: source.array(name, shape, ("one", "small")) for name, shape in shapes.items()}
    source.layouts.clear()  # a dict of arrays has no layouts
    return source.case({"params": params}, config=config, seed=source.integer(0, 2**40))


def angles(arguments, dy, unit):
    """The rounding of the angles of normal numbers, as for ``initialise``."""
    width = arguments["config"].width
    return {"value[reward.weight]": phase_error(arguments["seed"], STREAM_REWARD, (1, width)) / np.sqrt(width + 1)}


WITH_REWARD_HEAD = Component(
    name="with_reward_head",
    numpy=numpy_model.with_reward_head,
    torch=torch_model.with_reward_head,
    draw=draw_start,
    inside="float64",
    elementwise=True,
    cancellation=angles,
    dtypes=("float64", "float32"),
    compiles=False,
    events=("tied",),
    bugs=(
        Bug("output head kept", "numpy", 'if name != "output.weight"', 'if name != "outputs.weight"'),
        Bug("1 / sqrt(d)", "numpy", "math.sqrt(config.width + 1)", "math.sqrt(config.width)"),
        Bug("the weights' own stream", "numpy", "STREAM_REWARD", "1 << 32"),
        Bug("bias drawn", "numpy", "np.zeros(1, kind)", "head[0, :1].astype(kind)"),
        Bug("seed ignored", "torch", "normal(seed,", "normal(0,"),
        Bug("variance and deviation confused", "torch", "math.sqrt(config.width + 1)", "(config.width + 1)"),
        Bug("embedding lost", "torch", 'if name != "output.weight"', 'if not name.endswith("ing.weight")'),
    ),
)


def draw_ensemble(source):
    rule = source.choice("mean", "worst", "lower")
    models = source.integer(1, 5)
    source.event(rule)
    source.event("one model", models == 1)
    # Not the tiny ones: the squares of their differences are below float32's smallest number.
    rewards = source.array("rewards", (models, source.size(17)), ("one", "small", "sixteen", "offset", "ties", "zero"))
    return source.case({"rewards": rewards}, rule=rule, k=source.choice(0.5, 1.0, 2.0))


ENSEMBLE = Component(
    name="ensemble",
    numpy=numpy_model.ensemble,
    torch=torch_model.ensemble,
    draw=draw_ensemble,
    dtypes=("float64", "float32"),
    compiles=False,
    events=("mean", "worst", "lower", "one model", "offset", "ties"),
    bugs=(
        Bug("the best of them", "numpy", "np.min(", "np.max(", needs=("worst",)),
        Bug("over answers", "numpy", "return np.mean(rewards, axis=0)", "return 0 * rewards[0] + np.mean(rewards)", needs=("mean",)),
        Bug("variance for deviation", "numpy", "np.sqrt(np.mean((rewards - mean) ** 2, axis=0))", "np.mean((rewards - mean) ** 2, axis=0)", needs=("lower",)),
        Bug("upper bound", "numpy", "mean - k *", "mean + k *", needs=("lower",)),
        Bug("deviation of a sample", "torch", "correction=0", "correction=1", needs=("lower",)),
        Bug("k ignored", "torch", "- k *", "- 1 *", needs=("lower",)),
    ),
)

COMPONENTS = (REWARD_MODEL, SCALAR_HEAD, WITH_REWARD_HEAD, ENSEMBLE)
