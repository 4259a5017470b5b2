"""Declarations of joined, chosen and minibatch_rows."""

import numpy as np

import numpy_ref.rl.batch as numpy_batch
import torch_impl.rl.batch as torch_batch
from parity_tests.harness.declaration import Bug, Component
from parity_tests.harness.trees import tree_map


def rollout(source, filtered, wide):
    """Rows as ``rollout`` returns them, with their advantages."""
    rows, longest = source.integer(1, 4), source.integer(2, 7)
    starts = source.rng.integers(1, longest, rows)
    lengths = np.array([source.rng.integers(1, longest - start + 1) for start in starts])
    starts[0], lengths[0] = 1, longest - 1  # some row fills the width
    return {
        "tokens": source.rng.integers(1, 9, (rows, longest)),
        "mask": source.rng.random((rows, longest - 1)) < 0.7,
        "logprobs": source.rng.standard_normal((rows, longest - 1)),
        "kept": source.rng.random((rows, longest - 1, 5)) < 0.5 if filtered else None,
        "advantages": source.rng.standard_normal((rows, longest - 1 if wide else 1)),
        "starts": starts,
        "lengths": lengths,
    }


def as_integers(function, arguments):
    """Masks as numbers: the harness compares arrays."""
    return tree_map(lambda leaf: leaf, function(**arguments))


def draw_joined(source):
    filtered, wide = source.flag(), source.flag()
    batches = [rollout(source, filtered, wide) for _ in range(source.integer(1, 3))]
    source.event("several", len(batches) > 1)
    source.event("unequal widths", len({batch["tokens"].shape[1] for batch in batches}) > 1)
    source.event("filters", filtered)
    source.event("one of them without filters", filtered and len(batches) > 1 and source.flag())
    if "one of them without filters" in source.events:
        batches[-1]["kept"] = None
    return source.case({"batches": batches})


JOINED = Component(
    name="joined",
    numpy=numpy_batch.joined,
    torch=torch_batch.joined,
    draw=draw_joined,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    call=as_integers,
    events=("several", "unequal widths", "filters", "one of them without filters"),
    bugs=(
        Bug("padded in front", "numpy", "wide[:, : part.shape[1]] = part", "wide[:, width - part.shape[1] :] = part", "_padded", needs=("unequal widths",)),
        Bug("what was kept is padded with False", "numpy", 'name == "kept"', "False", needs=("unequal widths", "filters")),
        Bug("the last one alone", "numpy", "np.concatenate(_padded(parts", "np.concatenate(_padded(parts[-1:]", needs=("several",)),
        Bug("masks padded with True", "torch", 'name == "kept"', "True", needs=("unequal widths",)),
        Bug("cut to the shortest", "torch", "max(part.shape[1] for part in parts)", "min(part.shape[1] for part in parts)", "_padded", needs=("unequal widths",)),
    ),
)


def draw_chosen(source):
    batch = rollout(source, source.flag(), source.flag())
    count = len(batch["tokens"])
    rows = source.rng.permutation(count)[: source.integer(1, count)]
    longest = int(np.max(batch["starts"][rows] + batch["lengths"][rows]))
    source.event("narrower", longest < batch["tokens"].shape[1])
    source.event("one advantage a row", batch["advantages"].shape[1] == 1 and batch["mask"].shape[1] > 1)
    source.event("in another order", len(rows) > 1 and bool((np.diff(rows) < 0).any()))
    return source.case({"batch": batch, "rows": rows})


CHOSEN = Component(
    name="chosen",
    numpy=numpy_batch.chosen,
    torch=torch_batch.chosen,
    draw=draw_chosen,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    call=as_integers,
    events=("narrower", "one advantage a row", "in another order"),
    bugs=(
        Bug("one column too few", "numpy", 'longest - (name != "tokens")', "longest - 1"),
        Bug("as wide as before", "numpy", 'longest = int(np.max(batch["starts"][rows] + batch["lengths"][rows]))', 'longest = batch["tokens"].shape[1]', needs=("narrower",)),
        Bug("in the order of the batch", "numpy", "value = value[rows]", "value = value[np.sort(rows)]", needs=("in another order",)),
        Bug("prompts forgotten", "torch", 'batch["starts"][rows] + batch["lengths"][rows]', 'batch["lengths"][rows] + 0'),
        Bug("one column too few in Torch", "torch", '(name != "tokens")', "1"),
    ),
)


def draw_minibatches(source):
    rows = source.integer(1, 40)
    minibatches = source.choice(1, 1, 2, 3, 5)
    source.event("one", minibatches == 1)
    source.event("uneven", rows % minibatches > 0 and rows > minibatches)
    source.event("later pass", number := source.choice(0, 0, 7, 10**6))
    return source.case({}, rows=rows, minibatches=min(rows, minibatches), seed=source.integer(0, 2**40), number=number)


MINIBATCH_ROWS = Component(
    name="minibatch_rows",
    numpy=numpy_batch.minibatch_rows,
    torch=torch_batch.minibatch_rows,
    draw=draw_minibatches,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("one", "uneven", "later pass"),
    bugs=(
        Bug("every pass in the same order", "numpy", "STREAM_MINIBATCH + number", "STREAM_MINIBATCH", needs=("later pass",)),
        Bug("not shuffled", "numpy", "np.argsort(permuted(np.arange(rows), rows, seed, STREAM_MINIBATCH + number))", "np.arange(rows)"),
        Bug("the inverse order", "numpy", "np.argsort(permuted(np.arange(rows), rows, seed, STREAM_MINIBATCH + number))", "permuted(np.arange(rows), rows, seed, STREAM_MINIBATCH + number)"),
        Bug("every n-th row", "torch", "list(torch.tensor_split(order, minibatches))", "[order[n::minibatches] for n in range(minibatches)]"),
        Bug("seed ignored", "torch", "rows, seed, STREAM", "rows, 0, STREAM"),
    ),
)

COMPONENTS = (JOINED, CHOSEN, MINIBATCH_ROWS)
