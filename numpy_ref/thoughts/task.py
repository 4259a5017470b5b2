"""Problems on random graphs, which take several steps one after the other: follow edges; find a way to a goal."""

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

    The answer is only predicted. What is predicted are the words behind the units: neither question nor units. For
    "removal" nothing stands in the place of the steps.

    Shapes: edges (B, N), walk (B, hops + 1) -> tokens (B, T), targets (B, T) with -100 where nothing is predicted, and the
    places of units, a tuple: empty for pauses, which are tokens, and where there are none.
    """
    question = settings.question
    count = stage * settings.per_step if settings.units else 0
    pauses = np.full((len(walk), count), settings.nodes)
    tokens = np.concatenate([edges, walk[:, :1], pauses, walk[:, stage + 1 : settings.hops]], axis=1)
    targets = np.full_like(tokens, -100)
    targets[:, question + count - 1 :] = walk[:, stage + 1 :]
    places = tuple(range(question, question + count)) if settings.kind in ("thought", "code") else ()
    return tokens, targets, places


def fork_walks(seed, first, count, nodes, hops, stream=STREAM_THOUGHTS):
    """Random graphs with two edges from each node, and two walks from one start that turn at random.

    Problem i has 2 nodes + 1 + 2 hops uniforms: those of two permutations, which are the edges, the start's, and a turn
    for each hop of the first walk, then of the second.

    Returns edges (count, 2 * nodes), where node j leads to edges[:, j] and edges[:, nodes + j]; walks (count, 2, hops + 1).
    """
    width = 2 * nodes + 1 + 2 * hops
    u = uniform(seed, stream, (count, width), first * width)
    edges = np.argsort(u[:, : 2 * nodes].reshape(count, 2, nodes), axis=-1, kind="stable").reshape(count, 2 * nodes)
    turns = (2 * u[:, 2 * nodes + 1 :]).astype(np.int64).reshape(count, 2, hops)
    walks = [np.repeat((u[:, 2 * nodes : 2 * nodes + 1] * nodes).astype(np.int64), 2, axis=1)]
    for hop in range(hops):
        walks.append(np.take_along_axis(edges, walks[-1] + nodes * turns[..., hop], axis=1))
    return edges, np.stack(walks, axis=-1)


def fork_rows(edges, walks, settings):
    """Training rows in which a chain tries to be at a goal, where the first walk ends, after ``hops`` edges.

        edges, goal, start | the nodes between | 1 if the last of them has an edge to the goal (ARRIVED), else 0

    The chain of even rows is the first walk, and is learnt; that of odd rows is the second, of which only the verdict is
    learnt. So the model proposes like the first, and its verdict is a value of any chain.

    Shapes: edges (B, 2 N), walks (B, 2, hops + 1) -> tokens (B, T), targets (B, T) with -100 where nothing is predicted.
    """
    rows = np.arange(len(edges))
    walk, goal = walks[rows, rows % 2], walks[:, 0, -1:]
    tokens = np.concatenate([edges, goal, walk[:, :-1]], axis=1)
    targets = np.full_like(tokens, -100)
    targets[::2, settings.question - 1 : -1] = walk[::2, 1:-1]
    targets[:, -1] = arrives(edges, np.concatenate([walk[:, :-1], goal], axis=1))
    return tokens, targets


def arrives(edges, chain):
    """Whether each step of a chain is an edge.  Shapes: edges (B, 2 N), chain (B, n) of nodes -> (B,) of bool."""
    nodes = edges.shape[1] // 2
    ends = [np.take_along_axis(edges, chain[:, :-1] + nodes * way, axis=1) for way in range(2)]
    return np.all((ends[0] == chain[:, 1:]) | (ends[1] == chain[:, 1:]), axis=1)


def practice(seed, first, count, stage, settings, stream=STREAM_THOUGHTS):
    """Rows to train on: problems ``first`` to ``first + count - 1`` of a stream at a stage of the curriculum.

    Returns tokens, targets, places as of ``unit_rows``.
    """
    if settings.ways == 2:
        return *fork_rows(*fork_walks(seed, first, count, settings.nodes, settings.hops, stream), settings), ()
    return unit_rows(*pointer_chains(seed, first, count, settings.nodes, settings.hops, stream), stage, settings)
