"""Declarations of greedy, probabilities and sample."""

import math

import numpy as np
import torch

import numpy_ref.inference.sampling as numpy_sampling
import torch_impl.inference.sampling as torch_sampling
from parity_tests.harness.budget import Noisy
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MAGNITUDES


def draw_greedy(source):
    shape = (*source.leading(), source.size(65))
    logits = source.array("logits", shape, (*MAGNITUDES, "huge"))
    source.event("one token", shape[-1] == 1)
    top = logits.max(-1, keepdims=True)
    source.event("two likeliest", bool(((logits == top).sum(-1) > 1).any()))
    return source.case({"logits": logits})


def logits_shape(batch, vocabulary, **static):
    return lambda rng: Case({"logits": rng.standard_normal((batch, vocabulary))}, static)


GREEDY = Component(
    name="greedy",
    numpy=numpy_sampling.greedy,
    torch=torch_sampling.greedy,
    draw=draw_greedy,
    exact=True,
    events=("two likeliest", "one token", "ties", "constant", "huge", "strided"),
    shapes={"small": logits_shape(3, 11), "showcase": logits_shape(32, 256), "wide": logits_shape(8, 50257)},
    flops=lambda case: case.arrays["logits"].size,
    bytes=lambda case, size: size * case.arrays["logits"].size,
    bugs=(
        Bug("unlikeliest", "numpy", "np.argmax", "np.argmin"),
        Bug(
            "of equals the highest id",
            "numpy",
            "np.argmax(logits, axis=-1)",
            "logits.shape[-1] - 1 - np.argmax(logits[..., ::-1], axis=-1)",
        ),
        Bug("likeliest of the batch", "numpy", "axis=-1", "axis=0"),
        Bug("largest absolute value", "torch", "logits.argmax", "logits.abs().argmax"),
        Bug(
            "of equals the highest id in Torch",
            "torch",
            "logits.argmax(-1)",
            "logits.shape[-1] - 1 - logits.flip(-1).argmax(-1)",
        ),
        Bug("last axis kept", "torch", "argmax(-1)", "argmax(-1, keepdim=True)"),
    ),
)


# -- probabilities ----------------------------------------------------------------------------------------------------


def draw_probabilities(source):
    """Any logits under any filters; and logits whose probabilities are exact, so that even ties have one right answer.

    Where ``top_p`` is drawn at random no rational mass k / V can meet it: what rounding decides is nobody's mistake.
    """
    shape = (*source.leading(), vocabulary := source.size(65))
    kind = source.choice("any logits", "any logits", "exact masses", "rounded to equals")
    source.event(kind)
    top_k = source.choice(0, 0, 1, 2, 5, vocabulary - 1, vocabulary, vocabulary + 3)
    top_p = source.choice(1.0, 1.0, 0.9137, 0.5123, 0.0271, 1e-9)
    temperature = source.choice(1.0, 0.7, 0.7, 2.5, 1e-3, 1e-300)
    if kind == "exact masses":
        logits, equals = _exact_masses(source, shape)
        top_p, top_k = source.integer(1, max(1, equals - 1)) / equals, source.choice(0, top_k)
        source.event("mass before a token equal to p", top_p < 1)
    elif kind == "rounded to equals":
        logits = source.rng.standard_normal(shape) * 1e-17  # less than half a unit of the largest one's last place
        logits[..., source.rng.integers(vocabulary)] = 0.5
        top_k, top_p, temperature = vocabulary // 2, 1.0, 1.0
    else:
        logits = source.array("logits", shape)
    ordered = np.sort(logits, axis=-1)[..., ::-1]
    source.event("tie at k", 0 < top_k < vocabulary and bool((ordered[..., top_k - 1] == ordered[..., top_k]).any()))
    source.event("k = 1", top_k == 1)
    source.event("k > V", top_k > vocabulary)
    source.event("p = 1", top_p == 1)
    min_p = source.choice(0.0, 0.0, 0.1234, 1.0)
    source.event("min_p = 1", min_p == 1)
    source.event("all filters", bool(top_k and top_p < 1 and min_p))
    static = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    return source.case({"logits": logits}, **static)


def _exact_masses(source, shape):
    """(logits, n): in each row n tokens of probability 1 / n, n a power of two, and others that are impossible."""
    most = int(math.log2(shape[-1]))
    equals = 2 ** source.integer(min(1, most), most)
    rank = np.argsort(source.rng.random(shape), axis=-1)
    return np.where(rank < equals, source.choice(0.0, 2.0), -np.inf), equals


def with_kept_set(function, arguments):
    """The set of tokens that may be drawn must be the same set; how likely they are has a budget.

    Far below 1e-300 an exponential may be flushed to zero, which no uniform number will ever notice. Where a tie is
    decided by rounding, a noisy run may keep nothing and divide by zero; then it says that any value will do.
    """
    p = function(**arguments)
    if isinstance(p, Noisy):
        p = np.where(np.isnan(p), 0.0, p)
    kept = p > 1e-300
    return {"probabilities": p, "kept": kept.long() if torch.is_tensor(kept) else np.asarray(kept).astype(np.int64)}


PROBABILITIES = Component(
    name="probabilities",
    numpy=numpy_sampling.probabilities,
    torch=torch_sampling.probabilities,
    draw=draw_probabilities,
    call=with_kept_set,
    inside="float64",
    outputs={"value[probabilities]": "float64"},
    events=(
        "exact masses",
        "mass before a token equal to p",
        "rounded to equals",
        "tie at k",
        "k = 1",
        "k > V",
        "p = 1",
        "min_p = 1",
        "all filters",
        "constant",
    ),
    shapes={
        "small": logits_shape(3, 11, temperature=0.7, top_k=5, top_p=0.9137, min_p=0.01),
        "showcase": logits_shape(32, 256, temperature=0.8, top_p=0.9137),
        "wide": logits_shape(8, 50257, temperature=0.8, top_k=50),
    },
    flops=lambda case: 10 * case.arrays["logits"].size,
    bytes=lambda case, size: (size + 8) * case.arrays["logits"].size,
    bugs=(
        Bug("temperature forgotten", "numpy", " / temperature)", ")"),
        Bug("temperature multiplies", "numpy", " / temperature)", " * temperature)"),
        Bug(
            "temperature after the filters",
            "numpy",
            "logits = logits.astype(np.float64)",
            "logits = logits.astype(np.float64)\n"
            "    if temperature != 1:\n"
            "        return _renormalised(probabilities(logits, 1.0, top_k, top_p, min_p) ** (1 / temperature), 1.0)",
        ),
        Bug(
            "crossing token dropped",
            "numpy",
            "np.take_along_axis(before, rank",
            "np.take_along_axis(cumulative, rank",
        ),
        Bug("top-p <= instead of <", "numpy", "< top_p)", "<= top_p)"),
        Bug("mass in the order of ids", "numpy", "falling = np.take_along_axis(p, order, axis=-1)", "falling = p"),
        Bug("k + 1 tokens", "numpy", "rank < top_k", "rank <= top_k"),
        Bug(
            "all that tie with the k-th",
            "numpy",
            "rank < top_k",
            "p >= np.take_along_axis(p, order, axis=-1)[..., min(top_k, p.shape[-1]) - 1][..., None]",
        ),
        Bug(
            "of equals the highest id",
            "numpy",
            'np.argsort(-logits, axis=-1, kind="stable")',
            'np.argsort(logits, axis=-1, kind="stable")[..., ::-1]',
        ),
        Bug(
            "not renormalised",
            "numpy",
            "return p / np.sum(p, axis=-1, keepdims=True)",
            "return p",
            function="_renormalised",
        ),
        Bug("min-p of the whole", "numpy", "min_p * np.max(p, axis=-1, keepdims=True)", "min_p"),
        Bug("min-p > instead of >=", "numpy", "p >= min_p", "p > min_p"),
        Bug("p = 1 keeps the likeliest", "torch", "if top_p < 1:", "top_p = top_p % 1\n    if True:"),
        Bug("k off by one in Torch", "torch", "kept[..., top_k:] = 0", "kept[..., top_k + 1 :] = 0"),
        Bug(
            "top-p on the mass before top-k",
            "torch",
            "kept[..., top_k:] = 0\n        kept = kept / kept.sum(-1, keepdim=True)",
            "kept[..., top_k:] = 0",
        ),
        Bug("the likeliest comes last", "torch", "mass_before[..., 0] = 0", "pass"),
        Bug("crossing token dropped in Torch", "torch", "kept.cumsum(-1).roll(1, -1)", "kept.cumsum(-1)"),
        Bug("order of the rounded", "torch", "torch.sort(logits, ", "torch.sort(logits - peak, "),
        Bug(
            "handed back in the wrong order",
            "torch",
            "torch.empty_like(kept).scatter_(-1, ids, kept)",
            "kept.gather(-1, ids)",
        ),
        Bug("computed in float32", "torch", "else logits).double()", "else logits).float().double() * 1.0000001"),
    ),
)


# -- sample -----------------------------------------------------------------------------------------------------------

LARGEST = 1 - 2.0**-53  # no uniform number is nearer to 1


def draw_sample(source):
    vocabulary, lead = source.size(40), source.leading()
    exact = source.flag()  # sixty-fourths: every sum is exact, in whatever order it is added up
    if exact:
        masses = source.rng.multinomial(64, np.full(vocabulary, 1 / vocabulary), lead) / 64
    else:
        masses = source.rng.random((*lead, vocabulary))
        masses = np.where(source.rng.random(masses.shape) < source.choice(0.0, 0.5), 0.0, masses)
        masses[..., source.choice(0, vocabulary - 1, vocabulary // 2)] = 0.5  # something must be possible
    uniform = _uniform(source, lead, np.cumsum(masses, -1) if exact else None)
    masses = masses * source.choice(1.0, 0.25, 8.0)
    source.event("exact masses", exact)
    source.event("first token impossible", bool((masses[..., 0] == 0).any()))
    source.event("last token impossible", bool((masses[..., -1] == 0).any()))
    source.event("total not 1", bool((masses.sum(-1) != 1).any()))
    source.event("one token", vocabulary == 1)
    source.layouts["probabilities"] = source.choice("contiguous", "transposed", "sliced")
    return source.case({"probabilities": masses, "uniform": uniform})


def _uniform(source, lead, cumulative):
    """Numbers in [0, 1): any, the first, the last, or exactly the mass up to some token, where that is exact."""
    where = source.choice("any", "uniform = 0", "uniform = 1 - 2^-53", "boundary")
    if where == "boundary" and cumulative is not None:
        reached = cumulative[..., source.rng.integers(cumulative.shape[-1])]
        source.event("boundary", bool(((0 < reached) & (reached < 1)).any()))
        return np.asarray(np.where(reached < 1, reached, 0.0))
    source.event(where, where != "boundary")
    ends = {"uniform = 0": np.zeros(lead), "uniform = 1 - 2^-53": np.full(lead, LARGEST)}
    return np.asarray(ends.get(where, source.rng.random(lead)))


def masses_shape(batch, vocabulary):
    def build(rng):
        masses = rng.random((batch, vocabulary))
        return Case({"probabilities": masses / masses.sum(-1, keepdims=True), "uniform": rng.random(batch)})

    return build


SAMPLE = Component(
    name="sample",
    numpy=numpy_sampling.sample,
    torch=torch_sampling.sample,
    draw=draw_sample,
    exact=True,
    dtypes=("float64", "float32"),
    fixed=("uniform",),
    events=(
        "exact masses",
        "boundary",
        "uniform = 0",
        "uniform = 1 - 2^-53",
        "first token impossible",
        "last token impossible",
        "total not 1",
        "one token",
    ),
    shapes={"small": masses_shape(3, 11), "showcase": masses_shape(32, 256), "wide": masses_shape(8, 50257)},
    flops=lambda case: 2 * case.arrays["probabilities"].size,
    bytes=lambda case, size: 8 * case.arrays["probabilities"].size,
    bugs=(
        Bug(">= instead of >", "numpy", "cumulative > threshold", "cumulative >= threshold"),
        Bug("total taken for 1", "numpy", "uniform * cumulative[..., -1]", "uniform * 1.0"),
        Bug(
            "mass before the token",
            "numpy",
            "cumulative > threshold[..., None]",
            "cumulative - probabilities > threshold[..., None]",
        ),
        Bug("next token", "numpy", "return np.argmax(", "return 1 + np.argmax("),
        Bug("uniform the other way round", "numpy", "uniform * cumulative", "(1 - uniform) * cumulative"),
        Bug("left boundary", "torch", "right=True", "right=False"),
        Bug("summed in float32", "torch", "cumsum(-1, dtype=torch.float64)", "cumsum(-1, dtype=torch.float32)"),
        Bug("total taken for 1 in Torch", "torch", " * mass[..., -1:]", ""),
        Bug("largest uniforms past the end", "torch", "dtype=mass.dtype, device", "dtype=torch.float32, device"),
    ),
)

COMPONENTS = (GREEDY, PROBABILITIES, SAMPLE)
