"""Routing of tokens to experts. Logits, scores and weights are float32 or better, whatever the model computes in."""

import torch
import torch.nn.functional as F

from numpy_ref.errors import UserError

NONE = -1  # in the place of an expert: the slot is empty


def router_logits(x, weight):
    """x weight^T in float32 or better, the "selective precision" of arXiv:2101.03961 §2.4.

    Shapes: x (..., d), weight (E, d) -> (..., E).
    """
    wide = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    return F.linear(x.to(wide), weight.to(wide))


def noisy_logits(logits, spread, noise):
    """logits + noise * softplus(spread), the noisy gate of arXiv:1701.06538 (eq. 4). Shapes: all (..., E)."""
    # Not F.softplus: beyond its threshold it is the identity, and its gradient loses the small end.
    return logits + noise * torch.logaddexp(spread, torch.zeros_like(spread))


def router_scores(logits, scoring="softmax"):
    """softmax (arXiv:1701.06538 eq. 2) or sigmoid (arXiv:2412.19437 eq. 15) of the logits. Shapes: (..., E) -> same."""
    return F.softmax(logits, -1) if scoring == "softmax" else torch.sigmoid(logits)


def top_experts(scores, k):
    """Indices of the k largest scores, in falling order, the lower index first among equals.

    Shapes: scores (..., E) -> (..., k) int64. k passes of argmax, which promises the first of equals: ``topk`` promises
    nothing. UserError for k outside 1 ... E, and for NaN or +inf, unless a GPU would have to be waited for.
    """
    if not 1 <= k <= scores.shape[-1]:
        raise UserError(f"k={k} experts a token are not to be had: there are {scores.shape[-1]}; take 1 to that many")
    if not (scores.is_cuda or torch.compiler.is_compiling()) and not bool((scores < float("inf")).all()):
        raise UserError("router scores hold NaN or infinity: the router has diverged; lower the learning rate")
    left = scores.detach().clamp(min=torch.finfo(scores.dtype).min)  # above what marks those that are taken
    chosen = []
    for _ in range(k):
        best = left.argmax(-1, keepdim=True)
        chosen.append(best)
        left = left.scatter(-1, best, -float("inf"))
    return torch.cat(chosen, -1)


def limit_groups(scores, groups, kept):
    """Node-limited routing (arXiv:2412.19437 §2.1.2): -inf for experts outside of the token's ``kept`` best groups,
    where a group is rated by the sum of its top two. Shapes: scores (..., E) -> (..., E)."""
    experts = scores.shape[-1]
    if groups < 1 or experts % groups or kept not in range(1, groups + 1):
        raise UserError(f"groups={groups} must divide the {experts} experts, and kept={kept} be 1 to {groups}")
    grouped = scores.unflatten(-1, (groups, -1))
    rating = grouped.topk(min(2, grouped.shape[-1]), -1).values.sum(-1)
    best = top_experts(rating, kept)
    allowed = torch.zeros_like(rating, dtype=torch.bool).scatter(-1, best, True)
    return grouped.masked_fill(~allowed[..., None], -float("inf")).flatten(-2)


def gate_weights(logits, indices, scoring="softmax", gate="renormalised", scale=1.0):
    """The weight of each chosen expert's output, times ``scale``.

        raw            the expert's score (arXiv:2101.03961 eq. 2)
        renormalised   the scores over their sum (arXiv:2412.19437 eq. 13)
        chosen         softmax over the chosen logits (arXiv:2401.04088 §2.1)

    Shapes: logits (..., E), indices (..., K), NONE where a slot is empty -> (..., K), 0 in empty slots.
    """
    empty = indices == NONE
    place = indices.clamp(min=0)
    if gate == "chosen":
        picked = logits.gather(-1, place).masked_fill(empty, -float("inf"))
        void = empty.all(-1, keepdim=True)  # a softmax over nothing would be NaN
        return scale * F.softmax(picked.masked_fill(void, 0), -1).masked_fill(empty, 0)
    weights = router_scores(logits, scoring).gather(-1, place).masked_fill(empty, 0)
    if gate == "renormalised":
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return scale * weights


def expert_choice(scores, capacity):
    """Each expert takes its ``capacity`` best tokens (arXiv:2202.09368 eq. 1), the earlier one first among equals.

    Shapes: scores (T, E) -> (T, E) int64: column e holds e for tokens that expert e takes, NONE for the others.
    """
    tokens, experts = scores.shape
    if capacity not in range(1, tokens + 1):
        raise UserError(f"capacity={capacity} is not possible with {tokens} tokens; take 1 to {tokens}")
    order = torch.sort(scores.mT, dim=-1, descending=True, stable=True).indices[:, :capacity]
    taken = torch.zeros_like(scores.mT, dtype=torch.bool).scatter(-1, order, True).mT
    return torch.where(taken, torch.arange(experts, device=scores.device), NONE)
