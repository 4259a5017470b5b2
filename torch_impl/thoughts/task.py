"""Pointer chasing and ways to a goal: problems and rows."""

import torch

from torch_impl.rng import STREAM_THOUGHTS, uniform

TORCH_EXTRA_ARGUMENTS = {"device"}


def pointer_chains(seed, first, count, nodes, hops, stream=STREAM_THOUGHTS, device=None):
    """Problems ``first`` to ``first + count - 1`` of a stream: random permutations (count, nodes), and what one comes by
    from a random start, (count, hops + 1). Every problem takes nodes + 1 uniform numbers: ranks, then the start."""
    drawn = uniform(seed, stream, (count, nodes + 1), first * (nodes + 1), device)
    edges = drawn[:, :nodes].argsort(dim=1, stable=True)
    walk = [(drawn[:, nodes] * nodes).long()]
    for _ in range(hops):
        walk.append(edges.gather(1, walk[-1][:, None])[:, 0])
    return edges, torch.stack(walk, 1)


def unit_rows(edges, walk, stage, settings):
    """Inputs and targets of one stage: question, units for the first ``stage`` steps, the rest of the chain in words.

    Shapes: edges (B, N), walk (B, hops + 1) -> tokens (B, T), targets (B, T), -100 on the question and on units but for the
    last of them, places of units.
    """
    count = stage * settings.per_step if settings.units else 0
    units = edges.new_full((len(edges), count), settings.nodes)
    tokens = torch.cat((edges, walk[:, :1], units, walk[:, stage + 1 : settings.hops]), 1)
    start = settings.question + count - 1
    targets = torch.cat((torch.full_like(tokens[:, :start], -100), walk[:, stage + 1 :]), 1)
    places = range(settings.question, settings.question + count) if settings.kind in ("thought", "code") else ()
    return tokens, targets, tuple(places)


def fork_walks(seed, first, count, nodes, hops, stream=STREAM_THOUGHTS, device=None):
    """Two random permutations side by side, (count, 2 * nodes), and two walks (count, 2, hops + 1) from the same start that
    take either edge at random. Every problem takes 2 nodes + 1 + 2 hops uniform numbers: ranks, start, turns."""
    width = 2 * nodes + 1 + 2 * hops
    drawn = uniform(seed, stream, (count, width), first * width, device)
    edges = drawn[:, : 2 * nodes].view(count, 2, nodes).argsort(dim=-1, stable=True).flatten(1)
    turns = (drawn[:, 2 * nodes + 1 :] >= 0.5).long().view(count, 2, hops)
    walks = [(drawn[:, 2 * nodes, None] * nodes).long().expand(count, 2)]
    for turn in turns.unbind(-1):
        walks.append(edges.gather(1, walks[-1] + nodes * turn))
    return edges, torch.stack(walks, -1)


def fork_rows(edges, walks, settings):
    """Inputs and targets: question, chain, verdict. Even rows show a way, odd ones a walk that is only judged.

    Shapes: edges (B, 2 N), walks (B, 2, hops + 1) -> tokens (B, T), targets (B, T).
    """
    stray = (torch.arange(len(edges), device=edges.device) % 2 == 1)[:, None]
    walk, goal = torch.where(stray, walks[:, 1], walks[:, 0]), walks[:, 0, -1:]
    tokens = torch.cat((edges, goal, walk[:, :-1]), 1)
    verdict = arrives(edges, torch.cat((walk[:, :-1], goal), 1)).long()[:, None]
    question = torch.full_like(tokens[:, : settings.question - 1], -100)
    return tokens, torch.cat((question, walk[:, 1:-1].masked_fill(stray, -100), verdict), 1)


def arrives(edges, chain):
    """Whether a chain (B, n) follows edges (B, 2 N) all the way: (B,) of bool."""
    ends = edges.unflatten(1, (2, -1)).gather(2, chain[:, None, :-1].expand(-1, 2, -1))
    return (ends == chain[:, None, 1:]).any(1).all(1)


def practice(seed, first, count, stage, settings, stream=STREAM_THOUGHTS, device=None):
    """Training rows of the task that ``settings`` name: tokens, targets, places."""
    if settings.ways == 2:
        return *fork_rows(*fork_walks(seed, first, count, settings.nodes, settings.hops, stream, device), settings), ()
    return unit_rows(*pointer_chains(seed, first, count, settings.nodes, settings.hops, stream, device), stage, settings)
