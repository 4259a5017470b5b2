"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

A number is a pure function of (seed, stream, position), so both wings draw the same ones, in any order and on any
device, and nothing needs to be saved to resume. Torch has no unsigned 32-bit arithmetic: words live in int64, whose
product wraps modulo 2^64 and so still holds every bit of the unsigned one.
"""

import math

import torch

from numpy_ref.errors import UserError

TORCH_EXTRA_ARGUMENTS = {"device"}

# The low 32 bits number the streams of one purpose: parameter, epoch, step and site, row.
STREAM_INIT = 1 << 32
STREAM_ORDER = 2 << 32
STREAM_DROPOUT = 3 << 32
STREAM_SAMPLE = 4 << 32
STREAM_ROUTER = 5 << 32
STREAM_WIDEN = 16 << 32
STREAM_REWARD = 17 << 32
STREAM_CURRICULUM = 18 << 32
STREAM_MIXTURE = 19 << 32
STREAM_ADAPTER = 20 << 32
STREAM_ROLLOUT = 32 << 32
STREAM_MINIBATCH = 33 << 32
STREAM_SEGMENTS = 64 << 32  # + 0: where a text is cut into tokens
STREAM_THOUGHTS = 80 << 32  # + 0: problems to learn from, + 1: held-out ones, + 2: drawn units
STREAM_STORIES = 81 << 32

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # the constants of the paper's table 2
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1: the key grows by these each round
_CHUNK = 1 << 14  # blocks at a time on the CPU: the ten rounds then stay in the L2 cache, 4 times as fast


def philox(counter, key):
    """Ten rounds of Philox4x32: one random block for each counter.

    A round, on words (c0, c1, c2, c3) with key (k0, k1), where hi and lo are the halves of a 64-bit product:

        c0, c1, c2, c3 = hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0)

    Shapes: counter (..., 4), key (..., 2), both int64 holding 0..2^32-1 -> (..., 4) int64.
    """
    counter = torch.broadcast_to(counter, (*torch.broadcast_shapes(counter.shape[:-1], key.shape[:-1]), 4))
    return torch.stack(_rounds(counter.unbind(-1), key.unbind(-1)), -1)


def uniform(seed, stream, shape, offset=0, device=None):
    """Uniform numbers in [0, 1) with 53 random bits: elements offset, offset + 1, ... of a stream, in C order.

    Block b of the stream holds elements 2b and 2b+1. Shapes: -> ``shape``, float64. On a device without float64 (MPS)
    the result stays on the CPU.
    """
    device, key = _place(device), _words(seed)
    count = math.prod(shape)
    first, last = offset // 2, (offset + count + 1) // 2
    chunk = _CHUNK if device.type == "cpu" else max(1, last - first)
    values = torch.empty((last - first, 2), dtype=torch.float64, device=device)
    for start in range(first, last, chunk):
        block = torch.arange(start, min(start + chunk, last), device=device)
        counter = (block & _WORD, block >> 32, *(torch.full_like(block, word) for word in _words(stream)))
        w0, w1, w2, w3 = _rounds(counter, key)
        rows = values[start - first : start - first + chunk]
        rows[:, 0] = ((w0 >> 5) * 2**26 + (w1 >> 6)).double() * 2.0**-53  # int64 times a float would be float32
        rows[:, 1] = ((w2 >> 5) * 2**26 + (w3 >> 6)).double() * 2.0**-53
    skip = offset % 2
    return values.view(-1)[skip : skip + count].view(shape)


def normal(seed, stream, shape, dtype=torch.float64, offset=0, device=None):
    """Standard normal numbers by Box and Muller (1958), one for each pair of uniforms, computed in float64.

        z = sqrt(-2 ln(1 - u1)) cos(2 pi u2)

    Shapes: -> ``shape``, ``dtype``. The first ``offset`` numbers of the stream are left out.
    """
    u1, u2 = uniform(seed, stream, (*shape, 2), 2 * offset, device).unbind(-1)
    return (torch.sqrt(-2 * torch.log(1 - u1)) * torch.cos(2 * math.pi * u2)).to(dtype).to(device or "cpu")


def permuted(index, size, seed, stream, device=None):
    """Where each index goes in a pseudo-random permutation of range(size), without writing the permutation down.

    A balanced Feistel network of 4 rounds is a bijection of the smallest even number of bits that holds ``size``; what
    lands outside walks its cycle until it is inside again (Black and Rogaway 2002), which keeps it a bijection.
    Shapes: index (...) int64 in 0..size-1 -> (...) int64. Takes size below 2^62.
    """
    if size < 1:
        raise UserError(f"cannot permute {size} items; give a size of at least 1")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    key, low = _words(seed), (1 << half) - 1
    words = [torch.tensor(word, device=index.device) for word in (*range(4), *_words(stream))]

    def shuffle(value):
        left, right = value >> half, value & low
        for number in words[:4]:
            counter = torch.broadcast_tensors(right, number, *words[4:])
            left, right = right, left ^ (_rounds(counter, key)[0] & low)
        return left << half | right

    value = shuffle(index.to(device or index.device))
    while True:
        outside = value >= size
        if not outside.any():
            return value
        value = torch.where(outside, shuffle(value), value)


def _rounds(counter, key):
    """The ten rounds on a tuple of four words; the key is two numbers or two tensors."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = (second >> 32).bitwise_and_(_WORD).bitwise_xor_(c1).bitwise_xor_(k0)  # the shift copies the sign: mask it
        c2 = (first >> 32).bitwise_and_(_WORD).bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = second.bitwise_and_(_WORD), first.bitwise_and_(_WORD)
        k0, k1 = k0 + _WEYL[0] & _WORD, k1 + _WEYL[1] & _WORD
    return c0, c1, c2, c3


def _words(number):
    """The low and the high 32-bit word of a number below 2^64."""
    return number & _WORD, number >> 32 & _WORD


def _place(device):
    device = torch.device(device or "cpu")
    return torch.device("cpu") if device.type == "mps" else device
