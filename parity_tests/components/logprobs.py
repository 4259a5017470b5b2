"""Declarations of the log-probabilities of whole answers: answer_targets and sequence_logprobs."""

import numpy as np

import numpy_ref.dpo.logprobs as numpy_logprobs
import torch_impl.dpo.logprobs as torch_logprobs
from numpy_ref.config import ModelConfig, parameter_shapes
from numpy_ref.reward.rows import padded
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.components.losses import CROSS_ENTROPY, LINEAR_CROSS_ENTROPY
from parity_tests.harness.declaration import Bug, Case, Component


def rows(source, vocabulary, longest):
    """Texts padded on the right, and where their answers begin: from the first token but one to the last."""
    lengths = [source.integer(2, longest) for _ in range(source.integer(1, 4))]
    tokens, _, ends = padded([source.tokens((length,), vocabulary) for length in lengths])
    starts = np.array([source.integer(1, length - 1) for length in lengths])
    source.event("lengths differ", len(set(lengths)) > 1)
    source.event("an answer of one token", any(starts == np.array(lengths) - 1))
    source.event("nothing given but one token", any(starts == 1))
    return tokens, ends, starts


def draw_targets(source):
    return source.case(dict(zip(("tokens", "ends", "starts"), rows(source, 5, 9))))


ROWS = ("lengths differ", "an answer of one token", "nothing given but one token")

ANSWER_TARGETS = Component(
    name="answer_targets",
    numpy=numpy_logprobs.answer_targets,
    torch=torch_logprobs.answer_targets,
    draw=draw_targets,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=ROWS,
    bugs=(
        Bug("the prompt counts", "numpy", "(place >= starts[:, None]) & ", ""),
        Bug("padding counts", "numpy", " & (place <= ends[:, 1:])", ""),
        Bug("first token of the answer left out", "numpy", "place >= starts", "place > starts"),
        Bug("the end left out", "numpy", "place <= ends[:, 1:]", "place < ends[:, 1:]"),
        Bug("not shifted", "torch", "tokens[:, 1:].masked_fill", "tokens[:, :-1].masked_fill"),
        Bug("last token of the prompt counts", "torch", "column < starts[:, None]", "column < starts[:, None] - 1"),
        Bug("row for column", "torch", "ends[:, 1:]", "ends[:, :1]"),
    ),
)


def draw(source):
    config = ModelConfig(  # the kinds of models are ``transformer``'s declaration
        vocab_size=source.size(17, least=2),
        context=source.integer(2, 9),
        layers=1,
        width=8,
        heads=2,
        feed_forward=8,
        tie_embeddings=source.flag(),
        logit_softcap=source.choice(0.0, 4.0),
    )
    tokens, ends, starts = rows(source, config.vocab_size, config.context)
    chunk = source.choice(0, 1, 3, 100)
    source.event("chunks", 0 < chunk < tokens.size - len(tokens))
    source.event("tied", config.tie_embeddings)
    source.event("capped logits in chunks", bool(chunk and config.logit_softcap))
    arrays = {
        "inputs": tokens[:, :-1],
        "targets": numpy_logprobs.answer_targets(tokens, ends, starts),
        "params": random_parameters(source.rng, parameter_shapes(config)),
    }
    return source.case(arrays, config=config, chunk=chunk, recompute=source.choice(False, False, True))


SMALL = ModelConfig(vocab_size=11, context=8, layers=1, width=16, heads=2, feed_forward=32)


def fixed(rng):
    inputs, targets = rng.integers(0, 11, (2, 3, 8))
    return Case({"inputs": inputs, "targets": targets, "params": random_parameters(rng, parameter_shapes(SMALL))}, {"config": SMALL})


SEQUENCE_LOGPROBS = Component(
    name="sequence_logprobs",
    numpy=numpy_logprobs.sequence_logprobs,
    torch=torch_logprobs.sequence_logprobs,
    draw=draw,
    differentiable=("params",),
    kernels=(*KERNELS, CROSS_ENTROPY, LINEAR_CROSS_ENTROPY),
    outputs={"value": {"bfloat16": "float32", "float16": "float32"}},
    weight=6,
    compiles=False,
    shapes={"small": fixed},
    events=(*ROWS, "chunks", "tied", "capped logits in chunks"),
    bugs=(
        Bug("loss for its opposite", "numpy", "return -np.sum(losses, axis=1), vjp", "return np.sum(losses, axis=1), vjp"),
        Bug("mean over the row", "numpy", "return -np.sum(losses, axis=1), vjp", "return -np.mean(losses, axis=1), vjp"),
        Bug("gradient of the loss", "numpy", "np.repeat(-dy[:, None]", "np.repeat(dy[:, None]"),
        Bug("one gradient for all answers", "numpy", "np.repeat(-dy[:, None]", "np.repeat(-np.sum(dy) / len(dy) + 0 * dy[:, None]"),
        Bug("head without a gradient in chunks", "numpy", "grads[head] + dweight", "grads[head]"),
        Bug("softcap forgotten in chunks", "numpy", "config.logit_softcap", "0.0"),
        Bug("over all answers", "torch", "losses.sum(1)", "losses.sum().expand(len(losses))"),
        Bug("mean over the answer's tokens", "torch", "losses.sum(1)", "(losses.sum(1) / (targets >= 0).sum(1))"),
        Bug("tied head without a gradient in chunks", "torch", "losses = linear_cross_entropy(y, head,", "losses = linear_cross_entropy(y, head.detach(),"),
    ),
)

COMPONENTS = (ANSWER_TARGETS, SEQUENCE_LOGPROBS)
