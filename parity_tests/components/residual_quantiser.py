"""Declarations of residual vector quantisation: choosing codes, adding them up, fitting the codebooks."""

import numpy as np

import numpy_ref.concepts.residual_quantiser as numpy_quantiser
import torch_impl.concepts.residual_quantiser as torch_quantiser
from parity_tests.harness.declaration import Bug, Component


def draw_quantise(source):
    books, entries, width = source.integer(1, 3), source.size(9), source.size(5)
    magnitude = source.choice("one", "ties", "offset")
    x = source.array("x", (*source.leading(), width), (magnitude,))
    codebooks = source.array("codebooks", (books, entries, width), (magnitude,))
    source.event("several codebooks", books > 1)
    source.event("one entry", entries == 1)
    return source.case({"x": x, "codebooks": codebooks})


QUANTISE = Component(
    name="residual_quantiser.quantise",
    numpy=numpy_quantiser.quantise,
    torch=torch_quantiser.quantise,
    draw=draw_quantise,
    dtypes=("float64",),  # in fewer digits what is nearest may be another
    exact=True,
    events=("several codebooks", "one entry", "ties", "offset"),
    weight=2,
    compiles=False,
    bugs=(
        Bug("every codebook on the vector itself", "numpy", "left = left - codebook[codes[-1]]", "pass"),
        Bug("the farthest", "numpy", "np.argmin", "np.argmax", "_nearest"),
        Bug("nearest by product", "numpy", "np.argmin(np.sum(apart * apart, axis=-1), axis=-1)", "np.argmax(np.sum(x[..., None, :] * codebook, axis=-1), axis=-1)", "_nearest"),
        Bug("added", "numpy", "left - codebook[", "left + codebook["),
        Bug("in the order of the last", "numpy", "for codebook in codebooks:", "for codebook in codebooks[::-1]:"),
        Bug("of equals the last", "torch", ".argmin(-1)", ".flip(-1).argmin(-1).mul(-1).add(len(codebook) - 1)", "_nearest", needs=("ties",)),
        Bug("what is left is not passed on", "torch", "left = left - codebook[codes[:, j]]", "pass"),
    ),
)  # fmt: skip


def draw_sums(source):
    books, entries, width = source.integer(1, 4), source.size(9), source.size(5)
    codes = source.tokens((*source.leading(), books), entries)
    codebooks = source.array("codebooks", (books, entries, width), ("one", "small", "sixteen"))
    source.event("several codebooks", books > 1)
    source.event("a code used twice", codes.ndim > 1 and len(np.unique(codes[..., 0])) < codes[..., 0].size)
    return source.case({"codes": codes, "codebooks": codebooks})


PARTIAL_SUMS = Component(
    name="partial_sums",
    numpy=numpy_quantiser.partial_sums,
    torch=torch_quantiser.partial_sums,
    draw=draw_sums,
    differentiable=("codebooks",),
    events=("several codebooks", "a code used twice"),
    compiles=False,
    # A 16-bit table that learns is summed in its format, row by row: as many roundings as uses.
    dtypes=("float64", "float32"),
    bugs=(
        Bug("entries, not sums", "numpy", "np.cumsum(chosen, axis=-2)], axis", "chosen], axis"),
        Bug("not from 0", "numpy", "np.zeros_like(chosen[..., :1, :])", "chosen[..., :1, :]"),
        Bug("all from the first codebook", "numpy", "codes + entries * np.arange(count)", "codes + 0 * np.arange(count)"),
        Bug("a code twice counts once", "numpy", "np.add.at(dcodebooks, rows, dchosen)", "dcodebooks[rows] = dchosen"),
        Bug("gradient of the first sum behind alone", "numpy", "np.cumsum(dy[..., :0:-1, :], axis=-2)[..., ::-1, :]", "dy[..., 1:, :]", needs=("several codebooks",)),
        Bug("the sum before in Torch", "torch", "(0, 0, 1, 0)", "(0, 0, 0, 1)"),
        Bug("last codebook without a gradient", "torch", "chosen = codebooks[", "chosen = torch.cat((codebooks[:-1], codebooks[-1:].detach()))["),
    ),
)  # fmt: skip


def draw_fit(source):
    rows, width, books, entries = source.size(33, least=3), source.size(5), source.integer(1, 2), source.integer(1, 5)
    starts = source.rng.integers(0, rows, (books, entries))
    source.event("entries that begin alike", len(np.unique(starts[0])) < entries)
    iterations = source.choice(0, 1, 5)
    source.event("as begun", iterations == 0)
    return source.case({"x": source.rng.standard_normal((rows, width)), "starts": starts}, iterations=iterations)


FIT_CODEBOOKS = Component(
    name="fit_codebooks",
    numpy=numpy_quantiser.fit_codebooks,
    torch=torch_quantiser.fit_codebooks,
    draw=draw_fit,
    dtypes=("float64",),
    events=("entries that begin alike", "as begun"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("one step less", "numpy", "range(iterations)", "range(max(0, iterations - 1))"),
        Bug("sums for means", "numpy", "total / np.maximum(count, 1).astype(x.dtype)[:, None]", "total"),
        Bug("entries without vectors fall to 0", "numpy", "np.where(count[:, None] > 0, mean, codebook)", "mean", needs=("entries that begin alike",)),
        Bug("every codebook on the vectors themselves", "numpy", "left = left - codebook[_nearest(left, codebook)]", "pass"),
        Bug("begins in the vectors, not in what is left", "numpy", "codebook = left[first]", "codebook = x[first]"),
        Bug("one count for all", "torch", "count.clamp(min=1)", "count.clamp(min=1).max()"),
        Bug("what is left is added to", "torch", "left = left - codebook", "left = left + codebook"),
    ),
)  # fmt: skip

COMPONENTS = (QUANTISE, PARTIAL_SUMS, FIT_CODEBOOKS)
