"""Mixture of experts: tokens sorted by expert, two grouped matrix products, and back.

Of the same tokens the same bits come out every time (no atomic additions), whatever else is in the batch moves nothing
but rows, and the host never waits for the device to learn how many tokens an expert has.
"""

import torch

from numpy_ref.config import GATED
from torch_impl.model.activations import activation as nonlinearity
from torch_impl.model.balance import drop_overflow
from torch_impl.model.feed_forward import feed_forward
from torch_impl.model.grouped import collect, gated, grouped_linear, sorted_by_expert, spread
from torch_impl.model.parameters import with_prefix
from torch_impl.model.router import (
    NONE,
    gate_weights,
    limit_groups,
    noisy_logits,
    router_logits,
    router_scores,
    top_experts,
)

TORCH_ONLY = {"experts_loop", "sorted_feed_forward"}
TORCH_EXTRA_ARGUMENTS = {"most", "run_experts"}


def moe(x, params, config, routing=None, valid=None, run_experts=None):
    """sum_i w_i FFN_i(x) over each token's experts (arXiv:1701.06538 eq. 1), plus FFN_shared(x) (arXiv:2401.06066 §3.2).

    Shapes: x (B, T, d); router.weight (E, d), router.bias (E,)?, noise.weight (E, d)?, experts.* as for ``experts``,
    shared.* as for ``feed_forward``; valid (B, T) bool?, False where there is padding, which no expert sees
    -> (B, T, d), {"logits" (B, T, E), "indices" (B, T, K), "kept" (B, T, K) without what was dropped}.
    routing: what training adds: {"capacity": slots of an expert a row, or None; "noise": (B, T, E) or None}.
    run_experts: called in place of ``experts``, with its arguments.
    """
    routing = routing or {"capacity": None, "noise": None}
    logits = router_logits(x, params["router.weight"])
    if routing["noise"] is not None:
        logits = noisy_logits(logits, router_logits(x, params["noise.weight"]), routing["noise"])
    indices = choose(logits, params.get("router.bias"), config)
    if valid is not None:
        indices = indices.where(valid[..., None], NONE)
    weights = gate_weights(logits, indices, config.scoring, config.gate, config.router_scale)
    kept, most = indices, None
    if routing["capacity"]:
        kept = drop_overflow(indices, weights, routing["capacity"])
        most = len(x) * config.experts * routing["capacity"]
    own = with_prefix(params, "experts")
    run = run_experts or experts
    y = run(x.flatten(0, 1), kept.flatten(0, 1), weights.flatten(0, 1), own, config.activation, most).view_as(x)
    if config.shared_experts:
        y = y + feed_forward(x, with_prefix(params, "shared"), config.activation)
    return y, {"logits": logits, "indices": indices, "kept": kept}


@torch.no_grad()
def choose(logits, bias, config):
    """Each token's experts: the best by score, plus the balancing bias if there is one (arXiv:2408.15664 eq. 3), in the
    best groups if there are groups. Shapes: logits (..., E), bias (E,)? -> (..., K) int64.

    NaN and infinity do not stop the choice; they come back in the weights, for the training step to see.
    """
    scores = router_scores(logits, config.scoring).nan_to_num(0, 0, 0)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if config.expert_groups > 1:
        scores = limit_groups(scores, config.expert_groups, config.groups_per_token)
    return top_experts(scores, config.experts_per_token)


def experts(x, indices, weights, params, activation="gelu", most=None):
    """Weighted sum of the outputs of each row's experts, whose weights are stacked along a first axis.

    Shapes: x (N, d), indices and weights (N, K), up.weight (E, f, d) or gate_up.weight (E, 2f, d), down.weight (E, d, f),
    their biases (E, ...)? -> (N, d). Slots of index NONE are empty. ``most``: no more slots than that are filled, so
    that the products need no more rows.

    Weights act on the outputs in float32 or better; the sum over a row's experts is rounded once.
    """
    slots = sorted_by_expert(indices, len(params["down.weight"]), most)
    y = sorted_feed_forward(spread(x, slots), params, activation, slots)
    return collect(y, weights, slots)


def sorted_feed_forward(x, params, activation, slots):
    """Each run of sorted rows through its expert. Shapes: x (M, d), params as for ``experts`` -> (M, d)."""
    first = "gate_up" if activation in GATED else "up"
    hidden = grouped_linear(x, params[f"{first}.weight"], params.get(f"{first}.bias"), slots)
    hidden = gated(activation, hidden) if activation in GATED else nonlinearity(activation, hidden)
    return grouped_linear(hidden, params["down.weight"], params.get("down.bias"), slots)


def experts_loop(x, indices, weights, params, activation="gelu"):
    """``experts``, one expert after the other: what it means, without what makes it fast."""
    y = x.new_zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))
    for expert in range(len(params["down.weight"])):
        row, slot = torch.where(indices == expert)
        out = feed_forward(x[row], {name: value[expert] for name, value in params.items()}, activation)
        y = y.index_add(0, row, (out * weights[row, slot, None]).to(y.dtype))
    return y.to(x.dtype)
