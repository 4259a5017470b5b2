"""Declarations of hashed n-gram embeddings."""

import numpy as np

import numpy_ref.model.hash_ngrams as numpy_hash
import torch_impl.model.hash_ngrams as torch_hash
from parity_tests.components.byte import or_refusal
from parity_tests.harness.declaration import Bug, Case, Component


def draw_bytes(source):
    few = source.flag()
    shape = (source.integer(1, 3), source.size(40))
    tokens = source.rng.choice([0, 1, 255], shape) if few else source.rng.integers(0, 256, shape)
    source.event("few bytes", few)
    return tokens.astype(source.choice(np.uint8, np.int64, np.int32))


def draw_hashes(source):
    tokens = draw_bytes(source)
    size, buckets = source.choice(0, 1, 2, 3, 8), source.choice(0, 1, 7, 1000, 2**31)
    source.event("longer than the row", size > tokens.shape[1])
    source.event("impossible", size == 0 or buckets == 0)
    return source.case({"tokens": tokens}, size=size, buckets=buckets)


NGRAM_HASHES = Component(
    name="ngram_hashes",
    numpy=numpy_hash.ngram_hashes,
    torch=torch_hash.ngram_hashes,
    draw=draw_hashes,
    call=or_refusal,
    exact=True,
    dtypes=("float64",),
    events=("few bytes", "longer than the row", "impossible"),
    compiles=False,
    bugs=(
        Bug("byte 0 is no byte", "numpy", " + np.uint64(1)", ""),
        Bug("order forgotten", "numpy", "power = power * BASE % 2**64", "power = 1"),
        Bug("one byte of the future", "numpy", "total[:, back:] += values", "total[:, max(back - 1, 0) : total.shape[1] - (back > 0)] += values"),
        Bug("the last byte left out", "numpy", "range(min(size,", "range(1, min(size,"),
        Bug("lower bits", "numpy", ">> np.uint64(33)", "& np.uint64(0x7FFFFFFF)"),
        Bug("not mixed", "torch", " * _signed(MIX)", ""),
        Bug("the sign stays", "torch", " & 0x7FFFFFFF", ""),
        Bug("bytes go round the row", "torch", "F.pad(values[:, :-back] * _signed(power), (back, 0))", "values.roll(back, 1) * _signed(power)"),
    ),
)  # fmt: skip


def draw_embedding(source):
    sizes, width = source.choice((3,), (1, 2), (2, 3, 5)), source.size(17)
    params = {f"{n}.weight": source.weight("params", (source.choice(1, 5, 40), width)) for n in sizes}
    source.event("several sizes", len(sizes) > 1)
    source.event("all in one row", any(len(table) == 1 for table in params.values()))
    return source.case({"tokens": draw_bytes(source), "params": params})


def fixed(batch, length, rows, width):
    def build(rng):
        params = {f"{n}.weight": rng.standard_normal((rows, width)) for n in (3, 4, 6)}
        return Case({"tokens": rng.integers(0, 256, (batch, length)), "params": params})

    return build


HASH_NGRAMS = Component(
    name="hash_ngrams",
    numpy=numpy_hash.hash_ngrams,
    torch=torch_hash.hash_ngrams,
    draw=draw_embedding,
    differentiable=("params",),
    events=("few bytes", "several sizes", "all in one row"),
    shapes={"showcase": fixed(16, 256, 8192, 128)},
    compiles=False,
    flops=lambda case: 0,
    bytes=lambda case, size: 3 * case.arrays["tokens"].size * (8 + size * case.arrays["params"]["3.weight"].shape[1]),
    bugs=(
        Bug("the last table alone", "numpy", "total = y if total is None else total + y", "total = y"),
        Bug("one size for all", "numpy", 'int(name.partition(".")[0])', "2"),
        Bug("the mean of the tables", "numpy", "return total, vjp", "return total / len(params), vjp"),
        Bug("gradients halved", "numpy", "table_vjp(dy)", "table_vjp(dy * 0.5)"),
        Bug("always a thousand rows", "torch", "len(table))", "min(len(table), 2))"),
        Bug("bytes alone", "torch", 'int(name.partition(".")[0])', "1"),
    ),
)  # fmt: skip

COMPONENTS = (NGRAM_HASHES, HASH_NGRAMS)
