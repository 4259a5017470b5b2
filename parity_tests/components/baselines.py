"""Declarations of the baselines of concept models, and of contrastive accuracy."""


import numpy_ref.concepts.baselines as numpy_baselines
import torch_impl.concepts.baselines as torch_baselines
from parity_tests.harness.declaration import Bug, Component


def draw_features(source):
    shape = (source.integer(1, 3), source.size(9), source.size(5))
    source.event("one sentence", shape[1] == 1)
    return source.case({"x": source.array("x", shape, ("one", "small", "sixteen"))})


STORY_FEATURES = Component(
    name="story_features",
    numpy=numpy_baselines.story_features,
    torch=torch_baselines.story_features,
    draw=draw_features,
    events=("one sentence",),
    compiles=False,
    bugs=(
        Bug("the first sentence", "numpy", "x[:, -1]", "x[:, 0]"),
        Bug("the sum", "numpy", "np.mean(x, axis=1)", "np.sum(x, axis=1)"),
        Bug("no constant", "numpy", "np.ones_like(", "np.zeros_like("),
        Bug("the mean without the last", "torch", "x.mean(1)", "(x.mean(1) - x[:, -1] / x.shape[1])"),
        Bug("the mean first", "torch", "x[:, -1], x.mean(1)", "x.mean(1), x[:, -1]"),
    ),
)  # fmt: skip


def draw_contrast(source):
    rows, entries, width = source.size(9), source.size(17, least=2), source.size(5)
    table = source.rng.standard_normal((entries, width))
    right = source.rng.integers(0, entries, rows)
    exact = source.flag()
    predictions = table[right].copy() if exact else source.rng.standard_normal((rows, width))
    if source.flag():
        table[0] = table[-1]
    source.event("hits", exact)
    source.event("the same concept twice", bool((table[0] == table[-1]).all()))
    return source.case({"predictions": predictions, "table": table, "rows": right})


CONTRASTIVE = Component(
    name="contrastive_accuracy",
    numpy=numpy_baselines.contrastive_accuracy,
    torch=torch_baselines.contrastive_accuracy,
    draw=draw_contrast,
    dtypes=("float64",),  # in fewer digits two distances may change their order
    events=("hits", "the same concept twice"),
    compiles=False,
    bugs=(
        Bug("nearer", "numpy", "distances > own[:, None]", "distances < own[:, None]"),
        Bug("as far counts", "numpy", "distances > own[:, None]", "distances >= own[:, None]"),
        Bug("the right one counts among all", "numpy", "(len(table) - 1)", "len(table)"),
        Bug("by the largest feature", "numpy", "np.sum(apart * apart, axis=-1)", "np.max(apart * apart, axis=-1)"),
        Bug("of the wrong row", "torch", "rows[:, None]", "(rows[:, None] - 1) % len(table)"),
    ),
)  # fmt: skip

COMPONENTS = (STORY_FEATURES, CONTRASTIVE)
