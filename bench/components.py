"""Every component that the bench measures, at the shapes of a preset."""

import math
from dataclasses import replace

import numpy as np

from bench.work import DTYPE, MASTERS, Case, block_flops, model_flops, newton_schulz_flops, to_bfloat16
from numpy_ref.config import TrainConfig, parameter_count, parameter_shapes
from numpy_ref.presets import preset


def cases(name="showcase", batch=32):
    """Name -> Case."""
    config = replace(preset(name)[0], dropout=0.0)
    parts = _elementwise, _layers, _networks, _losses, _optimisers, _sampling, _data
    return {name: case for part in parts for name, case in part(config, batch).items()}


def _params(draw, config, prefix=""):
    """Weights of the part of the model under a prefix, of a size that keeps activations near one."""
    found = {}
    for name, shape in parameter_shapes(config).items():
        if name.startswith(prefix):
            if len(shape) > 1:
                value = draw(shape, scale=1 / math.sqrt(shape[-1]))
            else:
                value = draw(shape, scale=0.1, shift=float("norm.weight" in name))
            found[name.removeprefix(prefix)] = value
    return found


def _elementwise(config, batch):
    """Operations for each element, forward and backward, as the formulas have them."""
    stream = (batch, config.context, config.width)
    hidden = (batch, config.context, config.feed_forward)
    scores = (batch, config.heads, config.context, config.context)

    def case(where, shape, forward, backward, differentiable=("x",), **more):
        def arguments(draw):
            return {name: draw(shape) for name in differentiable} | {key: make(draw) for key, make in more.items()}

        size = math.prod(shape)
        return Case(where, arguments, forward * size, differentiable, backward * size)

    return {
        "gelu": case("model.activations.gelu", hidden, 4, 6),
        "gelu_tanh": case("model.activations.gelu_tanh", hidden, 8, 12),
        "relu": case("model.activations.relu", hidden, 1, 1),
        "residual": case("model.residual.residual", stream, 1, 0, ("x", "branch")),
        "softmax": case("model.softmax.softmax", scores, 4, 4),
        "dropout": case(
            "model.dropout.dropout",
            stream,
            2,
            2,
            keep=lambda draw: draw.rng.random(stream) >= 0.1,
            rate=lambda draw: 0.1,
        ),
    }


def _layers(config, batch):
    length, d, f, vocab = config.context, config.width, config.feed_forward, config.vocab_size
    rows = batch * length

    def table(draw):
        return {"tokens": draw.rng.integers(0, vocab, (batch, length)), "weight": draw((vocab, d))}

    def positions(draw):
        return {"positions": np.arange(length), "width": d, "dtype": DTYPE}

    def norm(draw):
        return {"x": draw((batch, length, d)), "weight": draw((d,), 0.1, 1.0), "bias": draw((d,))}

    def linear(draw):
        return {"x": draw((batch, length, d)), "weight": draw((f, d), 1 / math.sqrt(d)), "bias": draw((f,))}

    affine, up = ("x", "weight", "bias"), 2 * rows * d * f
    return {
        "embedding": Case("model.embedding.embedding", table, 0, ("weight",), rows * d),
        "sinusoidal_positions": Case("model.positions.sinusoidal_positions", positions, 2 * length * d, dtypes=MASTERS),
        # Its weight's gradient sums terms that nearly cancel over all rows.
        "layer_norm": Case("model.norms.layer_norm", norm, 8 * rows * d, affine, 11 * rows * d, slack=4),
        "linear": Case("model.linear.linear", linear, up, affine, 2 * up),
    }


def _networks(config, batch):
    length, d, heads = config.context, config.width, config.heads
    attention, projections, network = block_flops(config, batch, length)
    block = attention + projections + network

    def x(draw):
        return draw((batch, length, d))

    def attend(draw):
        return {name: draw((batch, heads, length, d // heads)) for name in ("query", "key", "value")} | {"causal": True}

    def all_heads(draw):
        return {"x": x(draw), "params": _params(draw, config, "blocks.0.attention."), "config": config}

    def hidden(draw):
        return {"x": x(draw), "params": _params(draw, config, "blocks.0.feed_forward.")}

    def one_block(draw):
        return {"x": x(draw), "params": _params(draw, config, "blocks.0."), "config": config}

    def everything(draw):
        tokens = draw.rng.integers(0, config.vocab_size, (batch, length))
        return {"tokens": tokens, "params": _params(draw, config), "config": config}

    # The backward of a linear map is twice its forward, that of attention 2.5 times (`block_flops`).
    model, model_backward = model_flops(config, batch, length)
    module, both = "model.attention.", ("x", "params")
    return {
        "scaled_dot_product_attention": Case(
            module + "scaled_dot_product_attention", attend, attention, ("query", "key", "value"), 2.5 * attention
        ),
        "multi_head_attention": Case(
            "model.multi_head_attention.multi_head_attention", all_heads, attention + projections, both, 2.5 * attention + 2 * projections
        ),
        "feed_forward": Case("model.feed_forward.feed_forward", hidden, network, both, 2 * network, slack=2),
        "block": Case("model.block.block", one_block, block, both, 2 * block + 0.5 * attention, slack=2),
        "transformer": Case("model.transformer.transformer", everything, model, ("params",), model_backward, slack=4),
    }


def _losses(config, batch):
    shape = (batch, config.context, config.vocab_size)

    def arguments(draw):
        return {"logits": draw(shape), "targets": draw.rng.integers(0, config.vocab_size, shape[:2])}

    size = math.prod(shape)
    return {"cross_entropy": Case("training.losses.cross_entropy", arguments, 4 * size, ("logits",), 3 * size)}


def _optimisers(config, batch):
    """One matrix by itself, and all parameters of the model as a training step updates them."""
    d, f, size = config.width, config.feed_forward, parameter_count(config)
    matrix = newton_schulz_flops(f, d)
    matrices = config.layers * (4 * newton_schulz_flops(d, d) + 2 * matrix)

    def one_matrix(draw):
        return {"param": draw((f, d)), "grad": draw((f, d)), "lr": 1e-3}

    def state(module, arguments):
        return arguments | {"state": module.init_state(arguments["param"])}

    def gradients(draw):
        return {"grads": _params(draw, config), "max_norm": 1.0}

    def update(optimizer, flops, slack=1):
        train = TrainConfig(optimizer=optimizer)

        def arguments(draw):
            return {"params": _params(draw, config), "grads": _params(draw, config), "lr": 1e-3, "train_config": train}

        def states(module, given):
            return given | {"states": module.init_states(given["params"], train)}

        return Case("training.optimizer.update", arguments, flops, dtypes=MASTERS, prepare=states, slack=slack)

    # Newton-Schulz enlarges small singular values, and their roundings with them; the norm is one long sum.
    return {
        "adamw": Case("training.adamw.adamw", one_matrix, 14 * d * f, dtypes=MASTERS, prepare=state),
        "muon": Case("training.muon.muon", one_matrix, matrix, dtypes=MASTERS, prepare=state, slack=8),
        "clip_by_global_norm": Case(
            "training.clipping.clip_by_global_norm", gradients, 3 * size, dtypes=MASTERS, slack=4
        ),
        "optimizer_adamw": update("adamw", 14 * size),
        "optimizer_muon": update("muon", matrices, slack=8),
    }


def _sampling(config, batch):
    rows, vocab = 4 * batch, config.vocab_size
    module = "inference.sampling."

    def logits(draw):
        return {"logits": draw((rows, vocab))}

    def filters(draw):
        return logits(draw) | {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.01}

    def masses(draw):
        values = np.exp(draw((rows, vocab)))
        return {
            "probabilities": to_bfloat16(values / values.sum(-1, keepdims=True)),
            "uniform": draw.rng.random(rows),
        }

    sorting = math.log2(vocab)
    return {
        "greedy": Case(module + "greedy", logits, rows * vocab, dtypes=MASTERS),
        "probabilities": Case(module + "probabilities", filters, rows * vocab * (10 + sorting), dtypes=MASTERS),
        "sample": Case(module + "sample", masses, 2 * rows * vocab, dtypes=MASTERS),
    }


def _data(config, batch):
    """Integers and random numbers: no floating-point operations, only memory."""
    size = batch << 15

    def stream(draw):
        return {"seed": 1, "stream": 2, "shape": (size,)}

    def windows(draw):
        tokens = draw.rng.integers(0, config.vocab_size, size).astype(np.uint8)
        return {"tokens": tokens, "position": 0, "batch_size": batch, "context": config.context, "seed": 1}

    return {
        "uniform": Case("rng.uniform", stream, 0, dtypes=("float64",)),
        "batch": Case("data.batches.batch", windows, 0, dtypes=("int64",), gathers=True),
    }
