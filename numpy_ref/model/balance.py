"""Keeping experts busy alike: losses that ask for it, a bias that sees to it, and limits on what an expert takes.

A mixture left to itself collapses: who gets tokens learns, who has learnt gets more tokens. Groups of tokens are the
leading axes here: each is balanced, and limited, for itself. A slot whose index is ``NONE`` counts nowhere, and neither
does a token all of whose slots are: that is padding.
"""

import math

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.router import NONE


def expert_load(indices, experts):
    """How many slots go to each expert.

    Shapes: indices (..., T, K) -> (..., E) int64. No gradient.
    """
    flat = indices.reshape(*indices.shape[:-2], -1)
    return np.sum(flat[..., None] == np.arange(experts), axis=-2, dtype=np.int64)


def balance_loss(scores, indices, denominator=None):
    """What balance asks for, 1 where every expert has the same share, E where one has all.

        L = sum_i f_i P_i        f_i = E c_i / sum_j c_j        P_i = mean over the tokens of s_i / sum_j s_j

    c_i: slots that chose expert i. A group of all tokens of a batch gives the loss of Switch (arXiv:2101.03961, eq. 4-6)
    with f over slots instead of tokens, so that it is 1 at balance for any K; groups of one sequence each give that of
    DeepSeek-V3 (arXiv:2412.19437, eq. 17-20). P is over all experts, chosen or not: that is where the gradient is, as
    f counts and has none. More than one group: the mean over groups, weighted by their tokens, of which there are
    ``denominator`` in all; micro-batches of one step share the step's.

    Shapes: scores (..., T, E), not negative, indices (..., T, K) -> ();  vjp: dL () -> dscores (..., T, E).

    Backward. With p = s / sum_j s_j and N tokens in all, dp_ti = dL f_i / N, and

        ds_ti = (dp_ti - sum_j dp_tj p_tj) / sum_j s_tj
    """
    experts = scores.shape[-1]
    load = expert_load(indices, experts)
    share = experts * load / np.maximum(1, np.sum(load, axis=-1, keepdims=True)).astype(scores.real.dtype)
    counted = np.any(indices != NONE, axis=-1, keepdims=True)
    if denominator is None:
        denominator = max(1, int(np.sum(counted)))
    total = np.sum(scores, axis=-1, keepdims=True)
    total = total + (total == 0)  # sigmoids may all vanish
    p = scores / total
    factor = np.where(counted, share[..., None, :], 0.0).astype(scores.real.dtype)

    def vjp(dloss):
        dp = dloss * factor / denominator
        return (dp - np.sum(dp * p, axis=-1, keepdims=True)) / total

    return np.sum(factor * p) / denominator, vjp


def router_z_loss(logits, counted=None, denominator=None):
    """Keeps logits small, where softmax has more digits (arXiv:2202.08906, eq. 5).

        L = mean over the tokens of lse^2,    lse = ln sum_i exp(l_i)

    counted: which tokens count (all); ``denominator``: how many there are, where micro-batches share it.

    Shapes: logits (..., E), counted (...) bool -> ();  vjp: dL () -> dlogits (..., E).

    Backward: dlse/dl_i = softmax_i, so dl_i = dL 2 lse softmax_i / N.
    """
    peak = np.max(logits.real, axis=-1, keepdims=True)
    exponentials = np.exp(logits - peak)
    total = np.sum(exponentials, axis=-1, keepdims=True)
    lse = np.log(total) + peak
    counts = np.ones(lse.shape, bool) if counted is None else counted[..., None]
    if denominator is None:
        denominator = max(1, int(np.sum(counts)))

    def vjp(dloss):
        return np.where(counts, dloss * 2.0 * lse / denominator * exponentials / total, 0.0)

    return np.sum(np.where(counts, lse * lse, 0.0)) / denominator, vjp


def update_bias(bias, load, rate):
    """Balance without a loss (arXiv:2408.15664, algorithm 1): who has too few tokens becomes easier to choose.

        b_i = b_i + u sign(mean load - load_i)

    Once for each step of the optimiser, with the load of the whole batch. The bias is added to the scores when experts
    are chosen, and never when their outputs are weighted.

    Shapes: bias (E,), load (E,) of whole numbers -> (E,). No gradient.
    """
    return bias + bias.dtype.type(rate) * np.sign(np.sum(load) - len(load) * load).astype(bias.dtype)


def expert_capacity(tokens, experts, k, factor):
    """How many of a group's tokens an expert takes (arXiv:2101.03961, eq. 3): ceil(factor k tokens / experts).

    Raises UserError for a factor that is not above 0.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise UserError(f"a capacity factor of {factor} leaves experts no tokens; take a finite number above 0, such as 1.25")
    return min(tokens, math.ceil(factor * k * tokens / experts))


def drop_overflow(indices, weights, capacity, policy="position"):
    """Empty the slots that are beyond an expert's capacity; the other slots of the token stay, with their weights.

    policy: "position" keeps an expert's first tokens, so that no token depends on later ones; "weight" keeps those that
    count most with it, which looks into the future. Of equal weights the earlier stays.

    Shapes: indices, weights (..., T, K); each group (...) has the capacity for itself -> indices, NONE in the slots that
    were dropped. No gradient.
    """
    if policy not in ("position", "weight"):
        raise UserError(f'policy={policy!r} is not allowed; it must be "position" or "weight"')
    flat = indices.reshape(*indices.shape[:-2], -1)
    if policy == "weight":
        order = np.argsort(-weights.reshape(flat.shape), axis=-1, kind="stable")
    else:
        order = np.broadcast_to(np.arange(flat.shape[-1]), flat.shape)
    queue = np.take_along_axis(flat, order, -1)
    experts = np.max(flat, initial=0) + 1
    places = np.cumsum(queue[..., None] == np.arange(experts), axis=-2)  # from 1
    place = np.take_along_axis(places, np.maximum(queue, 0)[..., None], -1)[..., 0]
    kept = np.empty_like(flat)
    np.put_along_axis(kept, order, np.where(place <= capacity, queue, NONE), -1)
    return kept.reshape(indices.shape)


def routing_summary(scores, indices, kept):
    """What the log says of a layer, in sums that add up over micro-batches and processes.

    load (E,): slots that chose each expert; dropped (): slots that found it full; tokens (); entropy (): the sum over
    the tokens of -sum_i p_i ln p_i in nats, p = s / sum_j s_j.

    Shapes: scores (..., T, E), indices and kept (..., T, K), before and after dropping -> dict. No gradient.
    """
    experts = scores.shape[-1]
    counted = np.any(indices != NONE, axis=-1)
    p = scores / np.maximum(np.sum(scores, axis=-1, keepdims=True), np.finfo(scores.dtype).tiny)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)
    return {
        "load": expert_load(indices.reshape(-1, indices.shape[-1]), experts),
        "dropped": np.sum((indices != NONE) & (kept == NONE), dtype=np.int64),
        "tokens": np.sum(counted, dtype=np.int64),
        "entropy": np.sum(np.where(counted, entropy, 0.0)),
    }
