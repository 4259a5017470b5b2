"""Pointer chasing: follow the edges of a random graph for some steps, which takes so many steps one after the other."""

import numpy as np

from numpy_ref.rng import STREAM_THOUGHTS, uniform


def pointer_chains(seed, first, count, nodes, hops, stream=STREAM_THOUGHTS):
    """Random permutations of the nodes, random starts, and the nodes that one comes by.

    Problem i of a stream is the same whatever the batch it comes in: it has the uniforms u_{i,0} ... u_{i,nodes}; the
    first ``nodes`` of them, sorted, are the permutation f, the last one gives the start. first: number of the first problem.

    Returns edges (count, nodes), where node j leads to edges[:, j], and the walk (count, hops + 1): s, f(s), f(f(s)), ...
    """
    u = uniform(seed, stream, (count, nodes + 1), first * (nodes + 1))
    edges = np.argsort(u[:, :nodes], axis=1, kind="stable")
    walk = [(u[:, nodes] * nodes).astype(np.int64)]
    for _ in range(hops):
        walk.append(edges[np.arange(count), walk[-1]])
    return edges, np.stack(walk, axis=1)


def unit_rows(edges, walk, stage, settings):
    """The rows of a training batch at a stage of the curriculum.

        edges, start | a place for each unit of the first ``stage`` steps | the other steps in words | the answer

    The answer is only predicted. What is predicted are the words behind the units: neither question nor units.

    Shapes: edges (B, N), walk (B, hops + 1) -> tokens (B, T), targets (B, T) with -100 where nothing is predicted, and the
    places of units, a tuple: empty for pauses, which are tokens, and where there are none.
    """
    question = settings.question
    count = 0 if settings.kind == "answer" else stage * settings.per_step
    pauses = np.full((len(walk), count), settings.nodes)
    tokens = np.concatenate([edges, walk[:, :1], pauses, walk[:, stage + 1 : settings.hops]], axis=1)
    targets = np.full_like(tokens, -100)
    targets[:, question + count - 1 :] = walk[:, stage + 1 :]
    places = tuple(range(question, question + count)) if settings.kind in ("thought", "code") else ()
    return tokens, targets, places
