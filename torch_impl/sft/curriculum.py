"""The order of examples: random, by difficulty, by competence, by the model's own loss, and mixtures of sources."""

import math

import torch

from numpy_ref.errors import UserError
from torch_impl.rng import STREAM_CURRICULUM, STREAM_MIXTURE, STREAM_ORDER, permuted, uniform

STRATEGIES = ("random", "length", "anti", "competence", "self-paced")
BLOCK = 1024
EPOCHS = 1 << 20


def competence(step, steps, start=0.1, root=2.0):
    """How much of the examples a learner is ready for, after Platanios et al. (arXiv:1903.09848 §2.2, root-p form).

        c(t) = min(1, (c0^p + (1 - c0^p) t / T)^(1/p))

    c0 = ``start``, T = ``steps``, p = ``root``: 2 is the square root of the paper, 1 grows evenly.
    """
    floor = start**root
    return min(1.0, (floor + (1.0 - floor) * step / steps) ** (1.0 / root))


def source_draws(position, count, sizes, temperature, seed):
    """The source of each of ``count`` draws from ``position`` on, and the number of the draw within its source.

    Source k of n_k examples has a share in proportion to n_k^(1 / temperature) (arXiv:1910.10683 §3.5.2). The shares are
    kept in every block of 1024 draws, each at least one draw of them, rounded by largest remainder; the order within a
    block is a permutation of its own. Shapes: sizes, K integers above 0 -> source, draw (count,) int64. UserError for a
    temperature of 0 or less and for more than 1024 sources.
    """
    quota = _quotas(sizes, temperature)
    borders, sources, draws = quota.cumsum(0), [], []
    while count > 0:
        block, slot = divmod(position, BLOCK)
        taken = min(count, BLOCK - slot)
        owner = torch.searchsorted(
            borders, permuted(torch.arange(BLOCK), BLOCK, seed, STREAM_MIXTURE + block), right=True
        )
        before = torch.nn.functional.one_hot(owner, len(quota)).cumsum(0).gather(1, owner[:, None])[:, 0] - 1
        sources.append(owner[slot : slot + taken])
        draws.append((block * quota[owner] + before)[slot : slot + taken])
        position, count = position + taken, count - taken
    empty = torch.zeros(0, dtype=torch.int64)
    return torch.cat([empty, *sources]), torch.cat([empty, *draws])


def order(strategy, draws, difficulty, share, seed, source=0):
    """The examples behind the draw numbers of a source.

    "random": a permutation each epoch. "length", "anti": each epoch sorted by difficulty, up or down, ties as the
    epoch's permutation has them. "competence", "self-paced": uniform over the ``share`` of examples that are easiest,
    at least one. Shapes: draws (n,) int64, difficulty (N,) -> (n,) int64. UserError for an unknown strategy.
    """
    draws, difficulty = torch.as_tensor(draws), torch.as_tensor(difficulty)
    size = len(difficulty)
    if strategy not in STRATEGIES:
        raise UserError(f"strategy={strategy!r} is unknown; choose one of {', '.join(STRATEGIES)}")
    if strategy in ("competence", "self-paced"):
        low, high = int(draws.min()), int(draws.max())
        chances = uniform(seed, STREAM_CURRICULUM + source, (high - low + 1,), low)[draws - low]
        pool = max(1, math.ceil(share * size - 1e-9))  # 1e-9: the share may be off by roundings
        easiest = _by_difficulty(difficulty, _permutation(size, seed, source, 0))
        return easiest[(chances * pool).long().clamp(max=pool - 1)]
    found = torch.empty_like(draws)
    for epoch in (draws // size).unique().tolist():
        inside = draws // size == epoch
        examples = _permutation(size, seed, source, epoch)
        if strategy != "random":
            examples = _by_difficulty(difficulty, examples, descending=strategy == "anti")
        found[inside] = examples[draws[inside] % size]
    return found


def conversations(strategy, position, count, sizes, difficulty, share, temperature, seed):
    """The conversations of ``count`` draws, their places where the sources' lie one after the other.

    ``source_draws`` says which source, ``order`` which of its ``sizes[k]`` conversations. Shapes: difficulty (C,) ->
    (count,) int64.
    """
    source, draw = source_draws(position, count, sizes, temperature, seed)
    chosen, first, difficulty = torch.empty_like(draw), 0, torch.as_tensor(difficulty)
    for number, size in enumerate(sizes):
        here = source == number
        if here.any():
            chosen[here] = first + order(strategy, draw[here], difficulty[first : first + size], share, seed, number)
        first += size
    return chosen


def _quotas(sizes, temperature):
    """Draws a block for each source: 1 and its share of the others. Shapes: -> (K,) int64, whose sum is BLOCK."""
    if not temperature > 0 or len(sizes) > BLOCK:
        raise UserError(
            f"{len(sizes)} sources at temperature={temperature}: at most {BLOCK} sources and a temperature above 0 work"
        )
    shares = torch.softmax(torch.as_tensor(sizes).double().log() / temperature, 0) * (BLOCK - len(sizes))
    quota = shares.floor().long()
    left = BLOCK - len(sizes) - int(quota.sum())
    quota[torch.argsort(shares - quota, descending=True, stable=True)[:left]] += 1
    return quota + 1


def _permutation(size, seed, source, epoch):
    return permuted(torch.arange(size), size, seed, STREAM_ORDER + source * EPOCHS + epoch)


def _by_difficulty(difficulty, examples, descending=False):
    return examples[torch.argsort(difficulty[examples], stable=True, descending=descending)]
