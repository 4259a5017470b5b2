"""Declarations of what measures reward models: accuracy_by, calibration, best_of_n. Measures are taken in float64."""

import numpy as np

import numpy_ref.reward.evaluation as numpy_evaluation
import torch_impl.reward.evaluation as torch_evaluation
from parity_tests.harness.declaration import Bug, Component


def leads(source):
    """r_c - r_r of some pairs: sure and unsure, right and wrong, and some of exactly 0."""
    values = source.array("lead", (source.size(40),), ("one", "small", "sixteen", "ties"))
    source.event("equal rewards", bool((values == 0).any()))
    return values


def draw_accuracy(source):
    lead = leads(source)
    amount = source.rng.choice([0.0, 0.1, 0.25, 0.5, 0.9, 1.0], len(lead))
    edges = np.array(source.choice([0.0, 0.25, 0.5, 1.0], [0.25, 1.0], [0.0, 0.2, 0.2, 2.0]))
    source.event("on an edge", bool(np.isin(amount, edges).any()))
    source.event("outside of all bins", bool((amount >= edges[-1]).any()))
    source.event("an empty bin", len(set(edges)) < len(edges))
    return source.case({"lead": lead, "amount": amount, "edges": edges})


ACCURACY_BY = Component(
    name="accuracy_by",
    numpy=numpy_evaluation.accuracy_by,
    torch=torch_evaluation.accuracy_by,
    draw=draw_accuracy,
    dtypes=("float64",),
    compiles=False,
    events=("equal rewards", "on an edge", "outside of all bins", "an empty bin"),
    bugs=(
        Bug("equal rewards are right", "numpy", "(np.sign(lead) + 1.0) / 2.0", "np.where(lead >= 0, 1.0, 0.0).astype(lead.dtype)", dtype="float64", needs=("equal rewards",)),
        Bug("equal rewards are wrong", "numpy", "(np.sign(lead) + 1.0) / 2.0", "np.where(lead > 0, 1.0, 0.0).astype(lead.dtype)", dtype="float64", needs=("equal rewards",)),
        Bug("edges belong below", "numpy", "(amount >= edges[:-1, None]) & (amount < edges[1:, None])", "(amount > edges[:-1, None]) & (amount <= edges[1:, None])", dtype="float64"),
        Bug("share of all pairs", "numpy", "np.maximum(count, 1)", "len(lead)", dtype="float64"),
        Bug("edges belong below in Torch", "torch", "right=True", "right=False", dtype="float64"),
        Bug("the last bin takes the rest", "torch", "here = (bins >= 0) & (bins < len(edges) - 1)", "bins = bins.clamp(max=len(edges) - 2); here = bins >= 0", dtype="float64", needs=("outside of all bins",)),
    ),
)


def draw_calibration(source):
    return source.case({"lead": leads(source)}, bins=source.choice(1, 4, 10))


CALIBRATION = Component(
    name="calibration",
    numpy=numpy_evaluation.calibration,
    torch=torch_evaluation.calibration,
    draw=draw_calibration,
    dtypes=("float64",),
    compiles=False,
    events=("equal rewards", "sixteen", "small"),
    bugs=(
        Bug("confidence below one half", "numpy", "np.exp(-np.abs(lead))", "np.exp(-lead)", dtype="float64"),
        Bug("bins from 0 to 1", "numpy", "((sure - 0.5) * 2.0 * bins)", "(sure * bins)", dtype="float64"),
        Bug("bins weigh the same", "numpy", "np.sum(count * np.abs(accuracy - confidence)) / len(lead)", "np.mean(np.abs(accuracy - confidence))", dtype="float64"),
        Bug("errors cancel", "numpy", "np.abs(accuracy - confidence)", "(accuracy - confidence)", dtype="float64"),
        Bug("certainty falls out of the last bin", "torch", ".long().clamp(max=bins - 1)", ".long() % bins", dtype="float64", needs=("sixteen",)),
        Bug("middle of the bin for the confidence", "torch", "for value in (sure, right)", "for value in (0.5 + (place.to(sure) + 0.5) / (2 * bins), right)", dtype="float64"),
        Bug("equal rewards are right", "torch", "(lead.sign() + 1) / 2", "(lead >= 0).to(lead.dtype)", dtype="float64", needs=("equal rewards",)),
    ),
)


def draw_best(source):
    prompts, samples = source.integer(1, 4), source.integer(1, 12)
    proxy = source.array("proxy", (prompts, samples), ("one", "ties", "constant"))
    truth = source.array("truth", (prompts, samples), ("one", "sixteen", "ties"))
    n = source.integer(1, samples)
    source.event("one", n == 1)
    source.event("all", n == samples > 1)
    source.event("equal proxies", any(len(set(row)) < samples for row in proxy.tolist()))
    return source.case({"proxy": proxy, "truth": truth}, n=n)


BEST_OF_N = Component(
    name="best_of_n",
    numpy=numpy_evaluation.best_of_n,
    torch=torch_evaluation.best_of_n,
    draw=draw_best,
    dtypes=("float64",),
    compiles=False,
    # The logarithms of the factorials: each is right to a roundoff, and so is their sum, of some tens at most.
    cancellation=lambda arguments, dy, unit: {"value": 64 * np.abs(arguments["truth"]).mean()},
    events=("one", "all", "equal proxies"),
    bugs=(
        Bug("worst of n", "numpy", "np.argsort(proxy, axis=1", "np.argsort(-proxy, axis=1", dtype="float64"),
        Bug("best by the truth", "numpy", "np.argsort(proxy, axis=1", "np.argsort(truth, axis=1", dtype="float64"),
        Bug("the best of all", "numpy", "weights[-1] = n / samples", "weights[-1] = 1.0", dtype="float64"),
        Bug("drawn with replacement", "numpy", "max(0, i - n) / (i - 1)", "((i - 1) / i) ** n", dtype="float64"),
        Bug("the last of equal ones is taken", "torch", "equal = (ranked[:, :, None] == ranked[:, None, :]).to(values.dtype)", "equal = torch.eye(size, dtype=values.dtype).expand(len(values), size, size)", dtype="float64", needs=("equal proxies",)),
        Bug("n - 1", "torch", "torch.where(place >= n,", "torch.where(place > n,", dtype="float64"),
        Bug("sum over prompts", "torch", ".sum(1).mean()", ".sum()", dtype="float64"),
    ),
)

COMPONENTS = (ACCURACY_BY, CALIBRATION, BEST_OF_N)
