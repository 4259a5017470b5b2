"""Load of the experts: counting it, losses and a bias that even it out, and capacities.

Leading axes are groups of tokens, balanced and limited one by one. Nothing here waits for the device.
"""

import math

import torch

from numpy_ref.errors import UserError
from torch_impl.model.router import NONE


def expert_load(indices, experts):
    """How many slots chose each expert. Shapes: indices (..., T, K) -> (..., E) int64; NONE is not counted."""
    flat = indices.flatten(-2)
    load = torch.zeros(*flat.shape[:-1], experts + 1, dtype=torch.int64, device=flat.device)
    return load.scatter_add_(-1, flat.remainder(experts + 1), torch.ones_like(flat))[..., :experts]  # NONE comes last


def balance_loss(scores, indices, denominator=None):
    """Sum over the experts of load share times mean score share, E times; the groups' mean, weighted by their tokens.

        f_i = E c_i / (slots of the group)        P_i = mean_t s_ti / sum_j s_tj        L = sum_i f_i P_i

    All tokens in one group: arXiv:2101.03961 eq. 4, which is 1 at balance. A sequence a group: arXiv:2412.19437 eq. 17.
    Shapes: scores (..., T, E), indices (..., T, K) -> (). Tokens without any slot do not count. ``denominator``: the
    number of tokens of the whole step, where this is a part of it.
    """
    load = expert_load(indices, scores.shape[-1]).to(scores.dtype)
    f = scores.shape[-1] * load / load.sum(-1, keepdim=True).clamp(min=1)
    counted = (indices != NONE).any(-1, keepdim=True)
    if denominator is None:
        denominator = counted.sum().clamp(min=1)
    total = scores.sum(-1, keepdim=True)
    p = scores / torch.where(total == 0, 1, total)
    return (p * (f.unsqueeze(-2) * counted)).sum() / denominator


def router_z_loss(logits, counted=None, denominator=None):
    """Mean square of the logits' logsumexp (arXiv:2202.08906 eq. 5). Shapes: logits (..., E), counted (...) bool? -> ()."""
    squares = torch.logsumexp(logits, -1).square()
    if counted is not None:
        squares = squares.where(counted, 0)
    if denominator is None:
        denominator = squares.numel() if counted is None else counted.sum()
        denominator = denominator.clamp(min=1) if torch.is_tensor(denominator) else max(1, denominator)
    return squares.sum() / denominator


def update_bias(bias, load, rate):
    """The bias after a step of loss-free balancing (arXiv:2408.15664 alg. 1): up by ``rate`` where the load is below
    its mean, down where above. Shapes: bias (E,), load (E,) integers -> (E,), new."""
    return torch.add(bias, (load.sum() - len(load) * load).sign().to(bias.dtype), alpha=rate)


def expert_capacity(tokens, experts, k, factor):
    """The slots that an expert has for a group of tokens: ceil(factor k tokens / experts), arXiv:2101.03961 eq. 3.

    UserError unless the factor is above 0.
    """
    if not 0 < factor < math.inf:
        raise UserError(f"capacity factor {factor} is not allowed; it must be above 0 and finite")
    return min(tokens, math.ceil(factor * k * tokens / experts))


def drop_overflow(indices, weights, capacity, policy="position"):
    """NONE in the place of slots that find their expert full.

    "position": first come, first served, which is causal; "weight": the heaviest first. Shapes: indices and weights
    (..., T, K) -> (..., T, K). Each group fills its own queues: two stable sorts, and the place in the sorted queue.
    """
    if policy not in ("position", "weight"):
        raise UserError(f'there is no policy {policy!r}; choose "position" or "weight"')
    flat = indices.flatten(-2)
    order = torch.arange(flat.shape[-1], device=flat.device).expand_as(flat)
    if policy == "weight":
        order = torch.sort(weights.detach().flatten(-2), dim=-1, descending=True, stable=True).indices
    queues = torch.sort(flat.gather(-1, order), dim=-1, stable=True)
    order = order.gather(-1, queues.indices)
    start = torch.searchsorted(queues.values, queues.values)  # where the queue of this expert begins
    place = torch.arange(flat.shape[-1], device=flat.device) - start
    kept = queues.values.where(place < capacity, NONE)
    return torch.empty_like(flat).scatter_(-1, order, kept).view_as(indices)


def routing_summary(scores, indices, kept):
    """Sums for the log: load (E,), dropped slots (), tokens (), and the entropy () of the scores, in nats, over tokens.

    Shapes: scores (..., T, E), indices and kept (..., T, K), before and after dropping -> dict of tensors.
    """
    scores, counted = scores.detach(), (indices != NONE).any(-1)
    p = scores / scores.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    return {
        "load": expert_load(indices.flatten(0, -2), scores.shape[-1]),
        "dropped": ((indices != NONE) & (kept == NONE)).sum(),
        "tokens": counted.sum(),
        "entropy": torch.special.entr(p).sum(-1).where(counted, 0).sum(),
    }
