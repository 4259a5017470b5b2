"""Declarations of competence, source_draws and order."""

import numpy as np

import numpy_ref.sft.curriculum as numpy_curriculum
import torch_impl.sft.curriculum as torch_curriculum
from numpy_ref.sft.curriculum import BLOCK, STRATEGIES
from parity_tests.components.rng import seed_or_stream
from parity_tests.harness.declaration import Bug, Component


def draw_competence(source):
    steps = source.choice(1, 7, 1000)
    step = source.choice(0, 1, steps, 2 * steps, max(0, steps - 1))
    source.event("at the beginning", step == 0)
    source.event("after the end", step > steps)
    source.event("on the way", 0 < step < steps)
    return source.case({}, step=step, steps=steps, start=source.choice(0.01, 0.1, 0.5, 1.0), root=source.choice(1.0, 2.0, 3.0))


COMPETENCE = Component(
    name="competence",
    numpy=numpy_curriculum.competence,
    torch=torch_curriculum.competence,
    draw=draw_competence,
    dtypes=("float64",),
    events=("at the beginning", "after the end", "on the way"),
    compiles=False,
    bugs=(
        Bug("never all of it", "numpy", "min(1.0, ", "min(0.9, ", dtype="float64"),
        Bug("no end", "numpy", "return min(1.0, (step / steps * (1.0 - first) + first) ** (1.0 / root))", "return (step / steps * (1.0 - first) + first) ** (1.0 / root)", dtype="float64"),
        Bug("begins with nothing", "numpy", "first = start**root", "first = 0.0", dtype="float64"),
        Bug("start not raised", "numpy", "start**root", "start", dtype="float64"),
        Bug("always a square root", "torch", "1.0 / root", "0.5", dtype="float64"),
        Bug("start added on top", "torch", "(1.0 - floor) * step", "step", dtype="float64"),
    ),
)


def draw_sources(source):
    count = source.integer(1, 4)
    sizes = [source.choice(1, 3, 100, 5000) for _ in range(count)]
    position = source.choice(0, 5, BLOCK - 3, 10 * BLOCK, 123_457)
    draws = source.choice(0, 1, 40)
    source.event("one source", count == 1)
    source.event("several sources", count > 1)
    source.event("nothing drawn", draws == 0)
    source.event("across blocks", position % BLOCK + draws > BLOCK)
    temperature = source.choice(1.0, 1.0, 0.5, 2.0, 5.0)
    source.event("a temperature", temperature != 1)
    seed = seed_or_stream(source, "seed")
    return source.case({}, position=position, count=draws, sizes=sizes, temperature=temperature, seed=seed)


SOURCE_DRAWS = Component(
    name="source_draws",
    numpy=numpy_curriculum.source_draws,
    torch=torch_curriculum.source_draws,
    draw=draw_sources,
    exact=True,
    dtypes=("float64",),
    events=("one source", "several sources", "nothing drawn", "across blocks", "a temperature", "64-bit seed"),
    compiles=False,
    bugs=(
        Bug("temperature multiplied", "numpy", "/ temperature\n", "* temperature\n", "_quotas", dtype="float64"),
        Bug("shares of equal sources", "numpy", "np.log(np.asarray(sizes, np.float64))", "0 * np.log(np.asarray(sizes, np.float64))", "_quotas", dtype="float64"),
        Bug("draws counted within a block alone", "numpy", "block * quota[owner[slot]] + earlier", "earlier", dtype="float64"),
        Bug("every block in the same order", "numpy", "STREAM_MIXTURE + int(block)", "STREAM_MIXTURE", dtype="float64"),
        Bug("the draw counts itself", "numpy", "owner[:s] == owner[s]", "owner[: s + 1] == owner[s]", dtype="float64"),
        Bug("a border belongs to the source before", "numpy", 'side="right"', 'side="left"', dtype="float64"),
        Bug("in the order of the sources", "torch", "permuted(torch.arange(BLOCK), BLOCK, seed, STREAM_MIXTURE + block)", "torch.arange(BLOCK)", dtype="float64"),
        Bug("remainders left over", "torch", "quota[torch.argsort(shares - quota, descending=True, stable=True)[:left]] += 1", "quota[0] += left", "_quotas", dtype="float64"),
        Bug("the next block begins anew", "torch", "position, count = position + taken, count - taken", "position, count = taken, count - taken", dtype="float64", needs=("across blocks",)),
    ),
)


def draw_order(source):
    size, draws = source.size(33), source.integer(1, 40)
    strategy = source.choice(*STRATEGIES)
    source.event(strategy)
    position = source.choice(0, 1, size - 1, 3 * size, 1000)
    arrays = {
        "draws": position + source.rng.permutation(draws),
        "difficulty": source.rng.integers(0, 6, size).astype(np.float64) if source.flag() else source.rng.standard_normal(size),
    }
    source.event("equally hard", len(set(arrays["difficulty"])) < size)
    source.event("across epochs", position % size + draws > size)
    share = source.choice(0.01, 0.3, 0.77, 1.0)
    source.event("some of all", strategy in ("competence", "self-paced") and share < 1)
    return source.case(arrays, strategy=strategy, share=share, seed=seed_or_stream(source, "seed"), source=source.integer(0, 3))


ORDER = Component(
    name="order",
    numpy=numpy_curriculum.order,
    torch=torch_curriculum.order,
    draw=draw_order,
    exact=True,
    dtypes=("float64",),
    fixed=("difficulty",),
    events=(*STRATEGIES, "equally hard", "across epochs", "some of all", "64-bit seed"),
    compiles=False,
    bugs=(
        Bug("every epoch alike", "numpy", "_shuffle(size, seed, source, int(epoch))", "_shuffle(size, seed, source, 0)", dtype="float64"),
        Bug("every source alike", "numpy", "STREAM_ORDER + source * EPOCHS + epoch", "STREAM_ORDER + epoch", "_shuffle", dtype="float64"),
        Bug("hard and easy exchanged", "numpy", 'strategy == "length"', 'strategy != "length"', dtype="float64"),
        Bug("equal ones in the order of the file", "numpy", "shuffle[np.argsort(difficulty[shuffle], kind=\"stable\")]", "np.argsort(difficulty, kind=\"stable\")", "_ranked", dtype="float64"),
        Bug("always all of them", "numpy", "np.ceil(share * size - 1e-9)", "size", dtype="float64"),
        Bug("share rounded down", "numpy", "np.ceil(share * size - 1e-9)", "share * size", dtype="float64"),
        Bug("pool of the hardest", "torch", "_by_difficulty(difficulty, _permutation(size, seed, source, 0))", "_by_difficulty(difficulty, _permutation(size, seed, source, 0), True)", dtype="float64"),
        Bug("drawn by position in the batch", "torch", "(high - low + 1,), low)", "(high - low + 1,), 0)", dtype="float64"),
        Bug("draws of one source for all", "torch", "STREAM_CURRICULUM + source", "STREAM_CURRICULUM", dtype="float64"),
        Bug("an epoch too late", "torch", "examples = _permutation(size, seed, source, epoch)", "examples = _permutation(size, seed, source, epoch + 1)", dtype="float64"),
    ),
)

def draw_conversations(source):
    sizes = [source.integer(1, 30) for _ in range(source.integer(1, 3))]
    strategy = source.choice(*STRATEGIES)
    source.event(strategy)
    source.event("several sources", len(sizes) > 1)
    arrays = {"difficulty": source.rng.integers(0, 9, sum(sizes)).astype(np.float64)}
    static = {"strategy": strategy, "position": source.choice(0, 77, 5000), "count": source.integer(1, 30), "sizes": sizes}
    static |= {"share": source.choice(0.2, 1.0), "temperature": source.choice(1.0, 3.0), "seed": source.integer(0, 9)}
    return source.case(arrays, **static)


CONVERSATIONS = Component(
    name="conversations",
    numpy=numpy_curriculum.conversations,
    torch=torch_curriculum.conversations,
    draw=draw_conversations,
    exact=True,
    dtypes=("float64",),
    fixed=("difficulty",),
    events=(*STRATEGIES, "several sources"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("difficulty of the first source for all", "numpy", "difficulty[first : first + sizes[number]]", "difficulty[: sizes[number]]", dtype="float64"),
        Bug("all of the first source", "numpy", "first + order(", "order(", dtype="float64", needs=("several sources",)),
        Bug("draws of the whole mixture", "numpy", "draw[here]", "(position + np.arange(count))[here]", dtype="float64", needs=("several sources",)),
        Bug("sources shuffled alike", "torch", "share, seed, number)", "share, seed, 0)", dtype="float64", needs=("several sources",)),
        Bug("temperature forgotten", "torch", "sizes, temperature, seed)", "sizes, 1.0, seed)", dtype="float64", needs=("several sources",)),
    ),
)

COMPONENTS = (COMPETENCE, SOURCE_DRAWS, ORDER, CONVERSATIONS)
