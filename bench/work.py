"""What one measurement of a component computes: the function, its inputs at the showcase's shapes, its arithmetic.

Floating-point operations count what the algorithm must do: 2 for each multiply-and-add of a matrix product, 1 for each
other arithmetic operation or elementary function of an element. Causal attention needs only half of its square.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from numpy_ref.config import TrainConfig, parameter_shapes, preset

FLOATS = ("float32", "bfloat16")
EXACT_INPUTS = ("float32",)  # optimiser steps and sampling work on float32 masters and logits only


@dataclass(frozen=True)
class Case:
    """``function`` of ``module`` (the same path in both wings), called with ``arguments(draw)`` by keyword.

    ``differentiable`` names arguments in the order of the vjp; ``flops`` and ``backward`` count forward and backward.
    ``prepare(module, arguments)`` adds what only the wing itself can make (optimiser states). ``slack`` widens the
    parity gate where the mathematics, not the code, amplifies roundings.
    """

    module: str
    function: str
    arguments: Callable
    flops: float
    differentiable: tuple = ()
    backward: float = 0.0
    dtypes: tuple = FLOATS
    prepare: Callable | None = None
    slack: float = 1.0
    gathers: bool = False  # reads only as much of its arguments as it returns

    @property
    def modes(self):
        return ("forward", "backward", "both") if self.differentiable else ("forward",)


def draw(name):
    """A drawer of reproducible normal arrays: ``draw(shape)``, and its generator as ``draw.rng``.

    Values are rounded to bfloat16, so that every number format gets exactly the same inputs and one reference serves all.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(shape, scale=1.0, shift=0.0):
        return to_bfloat16(rng.normal(size=shape) * scale + shift)

    normal.rng = rng
    return normal


def to_bfloat16(x):
    """float64 values rounded to 8 significant bits (to nearest; ties away from zero)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def cases(name="showcase", batch=32):
    """Every component at a preset's shapes: name -> Case."""
    config = replace(preset(name)[0], dropout=0.0)
    return {**_layers(config, batch), **_networks(config, batch), **_training(config, batch), **_sampling(config, batch)}


def _params(draw, config, prefix):
    """Weights of the part of the model under a prefix, of a size that keeps activations near one."""
    shapes = {key[len(prefix):]: shape for key, shape in parameter_shapes(config).items() if key.startswith(prefix)}
    return {
        key: draw(shape, 1 / math.sqrt(shape[-1])) if len(shape) > 1 else draw(shape, 0.1, float("norm.weight" in key))
        for key, shape in shapes.items()
    }


def _layers(config, batch):
    rows, d, f, vocab = batch * config.context, config.width, config.feed_forward, config.vocab_size
    stream, hidden = (batch, config.context, d), (batch, config.context, f)

    def tokens(draw):
        return draw.rng.integers(0, vocab, stream[:2])

    def elementwise(module, function, forward, backward, **more):
        arguments = lambda draw: {"x": draw(hidden)}  # noqa: E731
        return Case(module, function, arguments, forward * rows * f, ("x",), backward * rows * f, **more)

    return {
        "embedding": Case("model.embedding", "embedding", lambda draw: {"tokens": tokens(draw), "weight": draw((vocab, d))},
                          0, ("weight",), rows * d),
        "sinusoidal_positions": Case("model.positions", "sinusoidal_positions", lambda draw: {
            "positions": np.arange(config.context), "width": d, "dtype": DTYPE}, 2 * config.context * d, dtypes=EXACT_INPUTS),
        "layer_norm": Case("model.norms", "layer_norm", lambda draw: {
            "x": draw(stream), "weight": draw((d,), 0.1, 1.0), "bias": draw((d,))},
            8 * rows * d, ("x", "weight", "bias"), 11 * rows * d, slack=4),  # dweight sums terms that cancel over all rows
        "linear": Case("model.linear", "linear", lambda draw: {
            "x": draw(stream), "weight": draw((f, d), 1 / math.sqrt(d)), "bias": draw((f,))},
            2 * rows * d * f, ("x", "weight", "bias"), 4 * rows * d * f),
        "gelu": elementwise("model.activations", "gelu", 4, 6),
        "gelu_tanh": elementwise("model.activations", "gelu_tanh", 8, 12),
        "relu": elementwise("model.activations", "relu", 1, 1),
        "dropout": Case("model.dropout", "dropout", lambda draw: {
            "x": draw(stream), "keep": draw.rng.random(stream) >= 0.1, "rate": 0.1}, 2 * rows * d, ("x",), 2 * rows * d),
        "residual": Case("model.residual", "residual", lambda draw: {"x": draw(stream), "branch": draw(stream)},
                         rows * d, ("x", "branch"), 0),
        "softmax": Case("model.softmax", "softmax", lambda draw: {
            "x": draw((batch, config.heads, config.context, config.context))},
            4 * rows * config.heads * config.context, ("x",), 4 * rows * config.heads * config.context),
    }


def _networks(config, batch):
    heads, stream = config.heads, (batch, config.context, config.width)
    head = (batch, heads, config.context, config.width // heads)
    attention, projections, network = block_flops(config, batch, config.context)
    block = attention + projections + network
    model, model_backward = model_flops(config, batch, config.context)

    def attention_arguments(draw):
        return {"query": draw(head), "key": draw(head), "value": draw(head), "causal": True}

    first = "blocks.0."
    return {
        "scaled_dot_product_attention": Case("model.attention", "scaled_dot_product_attention", attention_arguments,
                                             attention, ("query", "key", "value"), 2.5 * attention),
        "multi_head_attention": Case("model.attention", "multi_head_attention", lambda draw: {
            "x": draw(stream), "params": _params(draw, config, first + "attention."), "heads": heads},
            attention + projections, ("x", "params"), 2.5 * attention + 2 * projections),
        "feed_forward": Case("model.feed_forward", "feed_forward", lambda draw: {
            "x": draw(stream), "params": _params(draw, config, first + "feed_forward.")},
            network, ("x", "params"), 2 * network, slack=2),
        "block": Case("model.block", "block", lambda draw: {
            "x": draw(stream), "params": _params(draw, config, first), "config": config},
            block, ("x", "params"), 2 * block + 0.5 * attention, slack=2),
        "transformer": Case("model.transformer", "transformer", lambda draw: {
            "tokens": draw.rng.integers(0, config.vocab_size, stream[:2]), "params": _params(draw, config, ""), "config": config},
            model, ("params",), model_backward, slack=4),
    }


def block_flops(config, batch, length):
    """Forward operations in the matrix products of one block: (attention, its projections, feed-forward).

    Causal attention has T (T + 1) / 2 visible pairs, two products of d features each. Its backward is 2.5 times the
    forward: four products, and the scores once more; the backward of a linear map is twice its forward.
    """
    rows, d = batch * length, config.width
    return 2 * rows * d * (length + 1), 8 * rows * d * d, 4 * rows * d * config.feed_forward


def model_flops(config, batch, length):
    """Operations of the whole model: (forward, backward)."""
    attention, *linear = block_flops(config, batch, length)
    head = 2 * batch * length * config.width * config.vocab_size
    forward = config.layers * (attention + sum(linear)) + head
    return forward, 2 * forward + 0.5 * config.layers * attention


def _training(config, batch):
    rows, d, f, vocab = batch * config.context, config.width, config.feed_forward, config.vocab_size
    size = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    matrices = config.layers * (4 * _newton_schulz(d, d) + 2 * _newton_schulz(f, d))

    def everything(draw):
        return {name: draw(shape, 0.1) for name, shape in parameter_shapes(config).items()}

    def update(optimizer):
        train = TrainConfig(optimizer=optimizer)
        return Case("training.optimizer", "update", lambda draw: {
            "params": everything(draw), "grads": everything(draw), "lr": 1e-3, "train_config": train},
            14 * size + (matrices if optimizer == "muon" else 0), dtypes=EXACT_INPUTS, slack=8 if optimizer == "muon" else 1,
            prepare=lambda module, a: a | {"states": module.init_states(a["params"], train)})

    def one_matrix(draw):
        return {"param": draw((f, d)), "grad": draw((f, d)), "lr": 1e-3}

    def state(module, arguments):
        return arguments | {"state": module.init_state(arguments["param"])}

    return {
        "cross_entropy": Case("training.losses", "cross_entropy", lambda draw: {
            "logits": draw((batch, config.context, vocab)), "targets": draw.rng.integers(0, vocab, (batch, config.context))},
            4 * rows * vocab, ("logits",), 3 * rows * vocab),
        "adamw": Case("training.adamw", "adamw", one_matrix, 14 * d * f, dtypes=EXACT_INPUTS, prepare=state),
        # Newton-Schulz enlarges small singular values, and their roundings with them.
        "muon": Case("training.muon", "muon", one_matrix, _newton_schulz(f, d), dtypes=EXACT_INPUTS, prepare=state, slack=8),
        "clip_by_global_norm": Case("training.clipping", "clip_by_global_norm", lambda draw: {
            "grads": everything(draw), "max_norm": 1.0}, 3 * size, dtypes=EXACT_INPUTS, slack=4),  # one sum over every weight
        "optimizer_adamw": update("adamw"),
        "optimizer_muon": update("muon"),
    }


def _newton_schulz(rows, columns, steps=5):
    """Operations of orthogonalising one matrix: three products a step, on its short side."""
    short, long = min(rows, columns), max(rows, columns)
    return steps * (4 * short * short * long + 2 * short**3)


def _sampling(config, batch):
    rows, vocab, context = 4 * batch, config.vocab_size, config.context
    corpus = 1 << 20

    def weights(draw):
        values = np.exp(draw((rows, vocab)))
        return to_bfloat16(values / values.sum(-1, keepdims=True))

    return {
        "greedy": Case("inference.sampling", "greedy", lambda draw: {"logits": draw((rows, vocab))}, rows * vocab, dtypes=EXACT_INPUTS),
        "probabilities": Case("inference.sampling", "probabilities", lambda draw: {
            "logits": draw((rows, vocab)), "temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.01},
            rows * vocab * (10 + math.log2(vocab)), dtypes=EXACT_INPUTS),
        "sample": Case("inference.sampling", "sample", lambda draw: {
            "probabilities": weights(draw), "uniform": draw.rng.random(rows)}, 2 * rows * vocab, dtypes=EXACT_INPUTS),
        "uniform": Case("rng", "uniform", lambda draw: {"seed": 1, "stream": 2, "shape": (corpus,)}, 0, dtypes=("float64",)),
        "batch": Case("data.batches", "batch", lambda draw: {
            "tokens": draw.rng.integers(0, vocab, corpus).astype(np.uint8), "position": 0, "batch_size": batch,
            "context": context, "seed": 1}, 0, dtypes=("int64",), gathers=True),
    }


DTYPE = object()  # stands for "the number format of this cell" among the arguments
