"""What is learnt in which order: every choice is a function of the seed and of how far a run is, so it can be resumed."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_CURRICULUM, STREAM_MIXTURE, STREAM_ORDER, permuted, uniform

STRATEGIES = ("random", "length", "anti", "competence", "self-paced")
BLOCK = 1024  # draws in which every source of a mixture has its exact share
EPOCHS = 1 << 20  # streams of a source


def competence(step, steps, start=0.1, root=2.0):
    """The share of the examples, easiest first, that a learner is ready for (arXiv:1903.09848, section 2.2).

        c = min(1, (t / T (1 - c0^p) + c0^p)^(1 / p))

    From c0 = ``start`` at step t = 0 to all of them at step T = ``steps``. p = ``root`` 2 is the paper's square root: new
    examples come at a rate that falls as there are more to learn from; 1 is a straight line, as self-paced learning has
    it (Kumar et al., NeurIPS 2010, whose threshold grows).
    """
    first = start**root
    return min(1.0, (step / steps * (1.0 - first) + first) ** (1.0 / root))


def source_draws(position, count, sizes, temperature, seed):
    """Which source each of the draws number position, ..., position + count - 1 comes from, and which draw of it that is.

        share of source k = n_k^(1 / temperature) / sum over j of n_j^(1 / temperature)        (arXiv:1910.10683, 3.5.2)

    Temperature 1 takes sources by their size, a high one takes all alike. Among every 1024 draws each source has its
    share, rounded (largest remainders first) and at least once, in a shuffled order; so no position has to be counted up
    to, and the next draws follow from the position alone.

    sizes: (K,) of whole numbers above 0 -> source and draw, (count,) int64 each. Raises UserError for a temperature that
    is not above 0, and for more sources than a block has draws.
    """
    quota = _quotas(sizes, temperature)
    number = position + np.arange(count)
    source, draw = np.zeros((2, count), np.int64)
    for block in np.unique(number // BLOCK):
        place = permuted(np.arange(BLOCK), BLOCK, seed, STREAM_MIXTURE + int(block))
        owner = np.searchsorted(np.cumsum(quota), place, side="right")
        here = number // BLOCK == block
        slot = number[here] % BLOCK
        source[here] = owner[slot]
        earlier = np.array([np.sum(owner[:s] == owner[s]) for s in slot], np.int64)
        draw[here] = block * quota[owner[slot]] + earlier
    return source, draw


def order(strategy, draws, difficulty, share, seed, source=0):
    """The examples number ``draws`` of a source, (n,) of whole numbers from 0 -> which ones they are, (n,) int64.

        random        every epoch shows every example once, shuffled
        length        every epoch from the easiest to the hardest; of equal ones the shuffle says which is first
        anti          every epoch from the hardest to the easiest
        competence    any of the easiest examples, ``share`` of all, drawn anew each time
        self-paced    the same, where difficulty is what the model itself finds hard: its loss

    difficulty: (N,), greater is harder. share: above 0, at most 1. Raises UserError for another strategy.
    """
    size = len(difficulty)
    if strategy not in STRATEGIES:
        raise UserError(f"there is no strategy {strategy!r}; take one of {', '.join(STRATEGIES)}")
    if strategy in ("competence", "self-paced"):
        first = int(draws.min())
        draw = uniform(seed, STREAM_CURRICULUM + source, (int(draws.max()) - first + 1,), offset=first)[draws - first]
        pool = max(1, int(np.ceil(share * size - 1e-9)))  # a rounding of the share is no example more
        place = np.minimum((draw * pool).astype(np.int64), pool - 1)
        return _ranked(difficulty, _shuffle(size, seed, source, 0))[place]
    epochs, places = draws // size, draws % size
    found = np.zeros(len(draws), np.int64)
    for epoch in np.unique(epochs):
        here, shuffle = epochs == epoch, _shuffle(size, seed, source, int(epoch))
        if strategy == "random":
            found[here] = shuffle[places[here]]
        else:
            found[here] = _ranked(difficulty if strategy == "length" else -difficulty, shuffle)[places[here]]
    return found


def conversations(strategy, position, count, sizes, difficulty, share, temperature, seed):
    """What draws number position, ..., position + count - 1 of a run are: (count,) int64, places in a row of all sources.

    sizes: how many conversations each source has; they lie one source after the other, as their difficulty (C,) does. The
    sources are mixed as ``source_draws`` has it, and each in itself is in the ``order`` of the strategy.
    """
    source, draw = source_draws(position, count, sizes, temperature, seed)
    chosen = np.zeros(count, np.int64)
    for number in np.unique(source):
        first, here = sum(sizes[:number]), source == number
        own = difficulty[first : first + sizes[number]]
        chosen[here] = first + order(strategy, draw[here], own, share, seed, int(number))
    return chosen


def _quotas(sizes, temperature):
    """How many draws of a block each source has: (K,) int64, at least one, BLOCK in all."""
    if not temperature > 0 or len(sizes) > BLOCK:
        raise UserError(f"temperature={temperature} with {len(sizes)} sources is not allowed; give a temperature above 0 "
                        f"and at most {BLOCK} sources")  # fmt: skip
    logs = np.log(np.asarray(sizes, np.float64)) / temperature
    weight = np.exp(logs - logs.max())
    exact = (BLOCK - len(sizes)) * weight / weight.sum()
    quota = np.floor(exact).astype(np.int64)
    rest = BLOCK - len(sizes) - quota.sum()
    quota[np.argsort(quota - exact, kind="stable")[:rest]] += 1
    return quota + 1


def _shuffle(size, seed, source, epoch):
    """Every example once, in the order of an epoch."""
    return permuted(np.arange(size), size, seed, STREAM_ORDER + source * EPOCHS + epoch)


def _ranked(difficulty, shuffle):
    """The examples from easy to hard; equally hard ones in the order in which the shuffle has them."""
    return shuffle[np.argsort(difficulty[shuffle], kind="stable")]
