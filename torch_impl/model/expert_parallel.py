"""Expert parallelism: every process has some of the experts, and tokens travel to them (GShard, arXiv:2006.16668 §3.3)."""

import torch
import torch.distributed as dist

from numpy_ref.errors import UserError
from torch_impl.model.balance import expert_load
from torch_impl.model.grouped import collect, sorted_by_expert, spread
from torch_impl.model.moe import sorted_feed_forward

TORCH_ONLY_FILE = "the reference runs in one process"


def parallel_experts(x, indices, weights, params, activation="gelu", most=None, group=None):
    """``moe.experts`` with the experts spread over the processes of a group, each of which brings tokens of its own.

    Process r of R has experts r E / R to (r + 1) E / R: of params it holds those rows. Shapes: x (N, d), indices (N, K) of
    all E experts, weights (N, K), up.weight (E / R, f, d) ... -> (N, d). N may differ from process to process. ``most``
    isn't needed here, where the rows are counted.

        count     how many rows go where: one all-to-all of E numbers, which the host has to read
        send      rows sorted by expert, and so by process: all-to-all
        compute   what came is sorted by expert once more, as it came sorted within each sender
        return    the same way back; weights act at home

    Gradients of the experts are those of all processes' tokens; what reads x at home, the router, has those of its own,
    which have to be summed over the processes as in any data parallelism.
    """
    world, own = dist.get_world_size(group), len(params["down.weight"])
    load = expert_load(indices, own * world)
    coming = torch.empty_like(load)
    dist.all_to_all_single(coming, load, group=group)
    coming = coming.view(world, own)
    sent, received = (counts.view(world, own).sum(1).tolist() for counts in (load, coming))

    slots = sorted_by_expert(indices, own * world, sum(sent))
    rows = _Exchange.apply(spread(x, slots), sent, received, group)
    expert = torch.arange(own, device=x.device).repeat(world).repeat_interleave(coming.flatten(), output_size=len(rows))
    here = sorted_by_expert(expert[:, None], own)
    y = sorted_feed_forward(spread(rows, here), params, activation, here)
    y = collect(y, torch.ones_like(here.place, dtype=torch.promote_types(y.dtype, torch.float32)), here)
    return collect(_Exchange.apply(y, received, sent, group), weights, slots)


def own_experts(params, rank, world):
    """The experts of one process: of name -> (E, ...) the rows that are its. Raises UserError where R does not divide E."""
    experts = len(params["down.weight"])
    check_shares(experts, world)
    size = experts // world
    return {name: value[rank * size : (rank + 1) * size] for name, value in params.items()}


def check_shares(experts, world):
    """Raise UserError unless each process can have as many of the experts."""
    if experts % world:
        raise UserError(f"{experts} experts can't be shared by {world} processes alike; take a number that divides {experts}")


class _Exchange(torch.autograd.Function):
    """Rows to the processes they are for, ``sent[r]`` to process r, ``received[r]`` from it. Backward: the way back."""

    @staticmethod
    def forward(ctx, rows, sent, received, group):
        ctx.lengths, ctx.group = (sent, received), group
        return _exchanged(rows, sent, received, group)

    @staticmethod
    def backward(ctx, dy):
        sent, received = ctx.lengths
        return _exchanged(dy, received, sent, ctx.group), None, None, None


def _exchanged(rows, sent, received, group):
    found = rows.new_empty(sum(received), rows.shape[1])
    dist.all_to_all_single(found, rows.contiguous(), received, sent, group=group)
    return found
