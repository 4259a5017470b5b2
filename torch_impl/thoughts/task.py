"""Pointer chasing: problems and rows."""

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
    count = 0 if settings.kind == "answer" else stage * settings.per_step
    units = edges.new_full((len(edges), count), settings.nodes)
    tokens = torch.cat((edges, walk[:, :1], units, walk[:, stage + 1 : settings.hops]), 1)
    start = settings.question + count - 1
    targets = torch.cat((torch.full_like(tokens[:, :start], -100), walk[:, stage + 1 :]), 1)
    places = range(settings.question, settings.question + count) if settings.kind in ("thought", "code") else ()
    return tokens, targets, tuple(places)
