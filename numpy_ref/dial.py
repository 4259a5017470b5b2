"""One number for everything: ``train --depth N`` chooses the model, the batch, the learning rate and the steps.

    width     64 a layer, in heads of 64 features
    context   64 a layer, as a power of two, from 128 to 2048 tokens
    tokens    20 for each parameter (arXiv:2203.15556), but at most 8 times through the text: beyond about 4 times,
              repeated text teaches less and less (arXiv:2305.16264)
    batch     tokens^0.4, a power law in the tokens alone (arXiv:2505.13738), through what trains the preset ``showcase``
              well: 4096 tokens a step for 17 million
    rate      8e-3 there, with Muon; it falls with the root of the width
"""

import math
from dataclasses import replace

from numpy_ref.config import ModelConfig, TrainConfig, parameter_count
from numpy_ref.errors import UserError
from numpy_ref.inspect import describe
from numpy_ref.progress import clock

DEFINITION = "arithmetic on settings"

DEEPEST = 64
TOKENS_A_PARAMETER, EPOCHS = 20, 8
ROWS_AT_ONCE = 2**15  # tokens of a micro-batch
EFFICIENCY = 0.5  # share of the speed of plain matrix products that a training step reaches, roughly


def settings(depth, vocab_size=256):
    """(ModelConfig, TrainConfig) of a depth. Raises UserError for one below 1 or above 64."""
    if not 1 <= depth <= DEEPEST:
        raise UserError(f"--depth {depth} is not possible; give a number of layers from 1 to {DEEPEST}")
    width = 64 * depth
    model = ModelConfig(
        vocab_size=vocab_size,
        context=2 ** round(math.log2(min(2048, max(128, width)))),
        layers=depth,
        width=width,
        heads=depth,
        feed_forward=64 * math.ceil(width * 8 / 3 / 64),
        activation="swiglu",
        positions="rope",
        norm="rms",
        feed_forward_bias=False,
        embedding_scale=math.sqrt(width),
    )
    return model, fitted(model, TrainConfig(optimizer="muon"), TOKENS_A_PARAMETER * parameter_count(model))


def fitted(model, train, tokens):
    """The training settings for a number of training tokens: batch, its parts, steps and learning rate."""
    wished = 4096 * (tokens / 17e6) ** 0.4
    batch = max(1, 2 ** round(math.log2(max(1, wished / model.context))))
    parts = max(1, batch * model.context // ROWS_AT_ONCE)
    steps = max(1, round(tokens / (batch * model.context)))
    rate = 8e-3 * math.sqrt(128 / model.width)
    return replace(
        train, batch=batch, accumulate=parts, steps=steps, lr=float(f"{min(rate, 0.01):.2g}"), warmup=min(100, steps // 20)
    )


def limited(model, train, available, given=()):
    """The settings for a text of ``available`` tokens, read at most 8 times; options that were given stay."""
    tokens = min(train.steps * train.batch * model.context, EPOCHS * available)
    chosen = fitted(model, train, tokens)
    return replace(chosen, **{name: getattr(train, name) for name in given})


def estimate(model, train, available, speed):
    """What a run will cost, in a line: operations, memory, time.

    ``speed``: floating-point operations a second of a matrix product of this model's shape, measured; a training step
    reaches about half of that.
    """
    facts = describe(model, train)
    tokens = train.steps * train.batch * model.context
    flops = facts["flops_per_token"]["training"] * tokens
    memory = facts["memory_training"]["total"]
    return (
        f"{tokens:,} tokens ({tokens / available:.1f} times the text) in {train.steps:,} steps of {train.batch} x "
        f"{model.context}, lr {train.lr:g}; {flops:.2g} FLOP, about {memory / 2**30:.1f} GiB, about "
        f"{clock(flops / (EFFICIENCY * speed))} at half of the {speed / 1e9:,.0f} GFLOP/s that a matrix product reaches here"
    )
