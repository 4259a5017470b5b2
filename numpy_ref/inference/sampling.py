"""From logits to the next token: logits -> probabilities, and probabilities + a uniform number -> token."""

import numpy as np

from numpy_ref.model.softmax import softmax


def greedy(logits):
    """The likeliest token, the lowest id among equals: logits (..., V) -> ids (...) int64."""
    return np.argmax(logits, axis=-1)


def probabilities(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The distribution to draw the next token from, in float64.

    p = softmax(logits / temperature), then three filters, each on what the one before has left, renormalised:

    - top-k (arXiv:1805.04833): the k likeliest tokens stay; among equals the lower id. 0 keeps all.
    - top-p (arXiv:1904.09751): from the likeliest on (equals: lower id first), a token stays while the mass before it
      is below p, so the one that crosses p stays. 1 keeps all.
    - min-p (arXiv:2407.01082): a token stays if it is at least min_p times as likely as the likeliest. 0 keeps all.

    Shapes: logits (..., V) -> (..., V), summing to 1 over the last axis.
    """
    logits = logits.astype(np.float64)
    # Order and rank by logits: a softmax may round two different ones to the same probability.
    order = np.argsort(-logits, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    with np.errstate(over="ignore"):  # the largest is 0 at any temperature, others may fall to -inf: probability 0
        p, _ = softmax((logits - np.max(logits, axis=-1, keepdims=True)) / temperature)
    if top_k:
        p = _renormalised(p, rank < top_k)
    if top_p < 1:
        falling = np.take_along_axis(p, order, axis=-1)
        cumulative = np.cumsum(falling, axis=-1)
        before = np.concatenate((np.zeros_like(falling[..., :1]), cumulative[..., :-1]), axis=-1)
        p = _renormalised(p, np.take_along_axis(before, rank, axis=-1) < top_p)
    if min_p:
        p = _renormalised(p, p >= min_p * np.max(p, axis=-1, keepdims=True))
    return p


def sample(probabilities, uniform):
    """Draw by inverting the cumulative distribution.

        token = smallest i with p_0 + ... + p_i > uniform * (p_0 + ... + p_V-1)

    Never a token of probability 0: there the sum does not grow. Computed in float64, where uniform * total stays below
    the total for every uniform below 1 (in float32 the largest uniforms would round to 1, and no such i exist).

    Shapes: probabilities (..., V), uniform (...) in [0, 1) -> ids (...) int64.
    """
    cumulative = np.cumsum(probabilities, axis=-1, dtype=np.float64)
    threshold = uniform * cumulative[..., -1]
    return np.argmax(cumulative > threshold[..., None], axis=-1)


def _renormalised(p, stays):
    p = p * stays
    return p / np.sum(p, axis=-1, keepdims=True)
