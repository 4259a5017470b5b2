"""Hashed n-gram embeddings of bytes (arXiv:2412.09871 §3.2.1): a few table look-ups a byte, hardly any arithmetic."""

import torch.nn.functional as F

from numpy_ref.errors import UserError
from torch_impl.model.embedding import embedding

BASE = 1_000_000_007
MIX = 0x9E3779B97F4A7C15


def ngram_hashes(tokens, size, buckets):
    """Rows of a hash table, one for the last ``size`` bytes at each position.

    A polynomial in BASE of the bytes plus one, 0 before the beginning, times MIX, all modulo 2^64; of that the upper 31
    bits modulo ``buckets``. int64 wraps as uint64 does, but shifts its sign in, which the mask cuts off.

    Shapes: tokens (B, T) integers -> (B, T) int64. UserError for a size or a number of rows below 1.
    """
    if size < 1 or buckets < 1:
        raise UserError(f"there are no n-grams of {size} bytes in {buckets} rows; take at least 1 of each")
    values = tokens.long() + 1
    total, power = values, 1
    for back in range(1, min(size, tokens.shape[1])):
        power = power * BASE % 2**64
        total = total + F.pad(values[:, :-back] * _signed(power), (back, 0))
    return ((total * _signed(MIX) >> 33) & 0x7FFFFFFF) % buckets


def hash_ngrams(tokens, params):
    """Sum of the n-grams' vectors at each position; params: {"3.weight": table (rows, d), ...}, the number being n.

    Shapes: tokens (B, T) -> (B, T, d), in the format of the tables.
    """
    found = (
        embedding(ngram_hashes(tokens, int(name.partition(".")[0]), len(table)), table) for name, table in params.items()
    )
    return sum(found, start=0)


def _signed(number):
    """An unsigned 64-bit number as int64 would hold it."""
    return number - 2**64 if number >= 2**63 else number
