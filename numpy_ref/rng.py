"""Random numbers that both wings draw alike: Philox4x32-10, a generator without state.

John Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A key and a counter go through ten rounds of
multiplying and mixing; every counter gives four words, in any order, on any device. So a run is resumed by knowing its
step, a dropout mask is drawn anew instead of stored, and NumPy and PyTorch read the same numbers.

A draw is named by (seed, stream, position): the seed is the key, the stream the upper half of the counter, the position
the lower half. The upper 32 bits of a stream say what it is for, the lower ones which one it is.
"""

import math

import numpy as np

from numpy_ref.errors import UserError

STREAM_INIT = 1 << 32  # + number of the parameter
STREAM_ORDER = 2 << 32  # + epoch
STREAM_DROPOUT = 3 << 32  # + step and place in the model
STREAM_SAMPLE = 4 << 32  # + row of the batch
STREAM_ROUTER = 5 << 32  # + step and layer
STREAM_WIDEN = 16 << 32  # + number of the matrix
STREAM_REWARD = 17 << 32  # the head of a reward model
STREAM_CURRICULUM = 18 << 32  # + number of the source
STREAM_MIXTURE = 19 << 32  # + block of draws
STREAM_ADAPTER = 20 << 32  # + number of what is trained
STREAM_ROLLOUT = 32 << 32  # + number of the rollout
STREAM_MINIBATCH = 33 << 32  # + number of the pass over a rollout
STREAM_SEGMENTS = 64 << 32  # + 0: where a text is cut into tokens
STREAM_THOUGHTS = 80 << 32  # + 0: problems to learn from, + 1: held-out ones, + 2: drawn units
STREAM_STORIES = 81 << 32  # + 0 ... 3: what may follow, + 4: stories, + 8 and more: noise of training

_WORD = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # 2^32 times the golden ratio's and sqrt(3)'s fractional part


def philox(counter, key):
    """Philox4x32-10: ten rounds over four words.

        high0, low0 = M0 * c0        high1, low1 = M1 * c2        (32 x 32 -> 64 bits)
        c = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0)        k += (W0, W1) modulo 2^32

    Shapes: counter (..., 4), key (..., 2), both of 32-bit words -> (..., 4) uint32. Leading axes broadcast.
    """
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = (key[..., i].astype(np.uint64) for i in range(2))
    for _ in range(_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second & _WORD, (first >> 32) ^ c3 ^ k1, first & _WORD
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return np.stack((c0, c1, c2, c3), axis=-1).astype(np.uint32)


def uniform(seed, stream, shape, offset=0):
    """Uniform float64 numbers in [0, 1): those at positions offset, offset + 1, ... of a stream, in C order.

    A double takes 53 bits, so two words: u = ((a >> 5) 2^26 + (b >> 6)) / 2^53. A block of four words holds two
    numbers: position e is words 0 and 1 (e even) or 2 and 3 (e odd) of the block with counter e // 2.

    seed and stream: whole numbers below 2^64; shape: tuple -> array of that shape.
    """
    count = math.prod(shape)
    first, last = offset // 2, (offset + count + 1) // 2
    block = np.arange(last - first, dtype=np.uint64) + np.uint64(first)
    words = philox(_counter(block & _WORD, block >> 32, stream), _words(seed)).astype(np.int64)
    doubles = ((words[:, 0::2] >> 5) * 2**26 + (words[:, 1::2] >> 6)) * 2.0**-53
    start = offset - 2 * first
    return doubles.reshape(-1)[start : start + count].reshape(shape)


def normal(seed, stream, shape, dtype=np.float64, offset=0):
    """Standard normal numbers by Box and Muller (1958): one from each pair of uniform ones.

        z = sqrt(-2 ln(1 - u)) cos(2 pi v),    u, v = numbers 2i and 2i + 1 of the stream

    1 - u instead of u: it is never 0. Computed in float64, then cast. The numbers from the ``offset``-th of the stream on.
    shape: tuple -> array of that shape.
    """
    u, v = np.moveaxis(uniform(seed, stream, (*shape, 2), 2 * offset), -1, 0)
    return (np.sqrt(-2.0 * np.log(1.0 - u)) * np.cos(2.0 * np.pi * v)).astype(dtype)


def permuted(index, size, seed, stream):
    """Where each index stands in a random order of range(size), without ever holding that order.

    A Feistel network (Luby and Rackoff 1988) is a bijection whatever its round function is, since each round can be
    undone:

        (left, right) -> (right, left ^ F(round, right))

    Four rounds on 2h bits, the fewest that hold ``size``; F is Philox cut to h bits. A result of ``size`` or more
    goes through again until it falls inside ("cycle walking", Black and Rogaway 2002): still a bijection, and at
    most four times the work on average.

    index (...,) of whole numbers in range(size) -> (...,) int64.
    """
    if size < 1:
        raise UserError(f"size={size} leaves nothing to permute; it must be at least 1")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    value = _feistel(index.astype(np.int64), half, seed, stream)
    while (outside := value >= size).any():
        value = np.where(outside, _feistel(value, half, seed, stream), value)
    return value


def _feistel(value, half, seed, stream):
    """Four rounds on the upper and the lower ``half`` bits of each value."""
    mask = (1 << half) - 1
    left, right = value >> half, value & mask
    for turn in range(4):
        mixed = philox(_counter(right, np.full_like(right, turn), stream), _words(seed))[..., 0].astype(np.int64)
        left, right = right, left ^ (mixed & mask)
    return left << half | right


def _words(number):
    """The lower and the upper 32 bits of a whole number below 2^64, as (2,) words."""
    return np.array([number & _WORD, number >> 32 & _WORD], np.uint64)


def _counter(low, high, stream):
    """Counters (..., 4): position in the lower two words, stream in the upper two."""
    upper = np.broadcast_to(_words(stream), (*low.shape, 2))
    return np.concatenate((np.stack((low, high), axis=-1).astype(np.uint64), upper), axis=-1)
