"""Embeddings of the last few bytes, found by a hash: what a byte model knows about its context before any attention.

Of all possible n-grams of bytes most never occur; a hash sends them to a table of moderate size, where those that meet in
one row share its vector (arXiv:2412.09871, section 3.2.1).
"""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.embedding import embedding

BASE = 1_000_000_007  # of the polynomial: a prime of ten digits
MIX = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: spreads neighbouring sums over all rows


def ngram_hashes(tokens, size, buckets):
    """The row of each position's n-gram of bytes in a table of ``buckets`` rows.

        h_t = sum over i < n of (x_{t-i} + 1) BASE^i  modulo 2^64,      0 for bytes before the beginning
        row = (upper 31 bits of h_t MIX modulo 2^64)  modulo buckets

    x + 1, so that byte 0 is not the same as no byte. The upper bits, because the lower ones of a product depend on the
    lower ones of its factors alone.

    Shapes: tokens (B, T) of whole numbers -> (B, T) int64. Raises UserError for a size or a number of rows below 1.
    """
    if size < 1 or buckets < 1:
        raise UserError(f"n-grams of {size} bytes in {buckets} rows are not possible; both must be at least 1")
    total = np.zeros(tokens.shape, np.uint64)
    power = 1
    for back in range(min(size, tokens.shape[1])):
        values = tokens[:, : tokens.shape[1] - back].astype(np.uint64) + np.uint64(1)
        total[:, back:] += values * np.uint64(power)
        power = power * BASE % 2**64
    return (total * np.uint64(MIX) >> np.uint64(33)).astype(np.int64) % buckets


def hash_ngrams(tokens, params):
    """The sum of the vectors of each position's n-grams.

        y_t = sum over n of E_n[row of the n-gram that ends at t]

    params: {"3.weight": E_3, ...}: the number says how many bytes. The vectors are added to the byte's own embedding.

    Shapes: tokens (B, T), E_n (rows, d) -> (B, T, d);  vjp: dy (B, T, d) -> grads with the keys of params.

    Backward: that of an embedding for each table.
    """
    total, vjps = None, {}
    for name, table in params.items():
        rows = ngram_hashes(tokens, int(name.partition(".")[0]), len(table))
        y, vjps[name] = embedding(rows, table)
        total = y if total is None else total + y

    def vjp(dy):
        return {name: table_vjp(dy) for name, table_vjp in vjps.items()}

    return total, vjp
