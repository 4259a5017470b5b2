"""Declarations of philox, uniform, normal and permuted."""

import numpy as np

import numpy_ref.rng as numpy_rng
import torch_impl.rng as torch_rng
from parity_tests.harness.declaration import DTYPE, Bug, Case, Component

CARRY = 2**33  # two numbers a block: from this offset on the block counter needs its second word


def seed_or_stream(source, name):
    """A whole number below 2^64, small or with both words in use."""
    wide = source.flag()
    source.event(f"64-bit {name}", wide)
    return source.integer(2**32, 2**64 - 1) if wide else source.choice(0, 1, 2**32 - 1, source.integer(0, 2**32))


def shape(source, most=20):
    """Zero to three axes, one of which may be empty."""
    sizes = tuple(
        source.choice(0, 1, 2) if source.integer(0, 7) == 0 else source.size(most) for _ in range(source.integer(0, 3))
    )
    source.event("scalar", sizes == ())
    source.event("empty", 0 in sizes)
    source.event("odd count", int(np.prod(sizes)) % 2 == 1)
    return sizes


# -- philox -------------------------------------------------------------------------------------------------------


def words(source, name, axes, count):
    """Random 32-bit words, all zeros or all ones."""
    kind = source.choice("random", "random", "zeros", "ones")
    source.event(f"{kind} {name}")
    if kind == "random":
        return source.rng.integers(0, 2**32, (*axes, count))
    return np.full((*axes, count), 0 if kind == "zeros" else 2**32 - 1)


def draw_philox(source):
    axes = source.leading()
    shared = source.choice("neither", "key", "counter")
    source.event(f"shared: {shared}", axes != ())
    source.layouts["counter"] = source.choice("contiguous", "transposed", "sliced")
    arrays = {
        "counter": words(source, "counter", () if shared == "counter" else axes, 4),
        "key": words(source, "key", () if shared == "key" else axes, 2),
    }
    return source.case(arrays)


def own_words(function, arguments):
    """Words as each wing holds them: unsigned 32-bit in NumPy, int64 in Torch, which has no shift for the former."""
    held = {
        name: value.astype(np.uint32) if isinstance(value, np.ndarray) else value for name, value in arguments.items()
    }
    return function(**held)


PHILOX = Component(
    name="philox",
    numpy=numpy_rng.philox,
    torch=torch_rng.philox,
    draw=draw_philox,
    call=own_words,
    exact=True,
    dtypes=("float64",),
    outputs={"value": "int64"},
    events=("zeros counter", "ones counter", "ones key", "shared: neither", "shared: key", "shared: counter"),
    compiles=False,
    shapes={"small": lambda rng: Case({"counter": rng.integers(0, 2**32, (33, 4)), "key": rng.integers(0, 2**32, 2)})},
    bugs=(
        Bug("nine rounds", "numpy", "range(_ROUNDS)", "range(_ROUNDS - 1)"),
        Bug(
            "multipliers swapped",
            "numpy",
            "_MULTIPLIERS[0], c2 * _MULTIPLIERS[1]",
            "_MULTIPLIERS[1], c2 * _MULTIPLIERS[0]",
        ),
        Bug("key not bumped", "numpy", "(k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD", "k0, k1"),
        Bug("key grows beyond its word", "numpy", "(k0 + _KEY_STEPS[0]) & _WORD", "k0 + _KEY_STEPS[0]"),
        Bug("key words swapped", "numpy", "^ c1 ^ k0", "^ c1 ^ k1"),
        Bug("halves shifted by 31", "numpy", "(first >> 32)", "(first >> 31 & _WORD)"),
        Bug(
            "low words swapped",
            "numpy",
            "second & _WORD, (first >> 32) ^ c3 ^ k1, first",
            "first & _WORD, (first >> 32) ^ c3 ^ k1, second",
        ),
        Bug("the shift keeps the sign", "torch", "(second >> 32).bitwise_and_(_WORD)", "(second >> 32)", "_rounds"),
        Bug(
            "key bumped before the round",
            "torch",
            "for _ in range(10):",
            "for _ in range(10):\n        k0, k1 = k0 + _WEYL[0] & _WORD, k1 + _WEYL[1] & _WORD",
            "_rounds",
        ),
        Bug(
            "key steps swapped",
            "torch",
            "k0 + _WEYL[0] & _WORD, k1 + _WEYL[1] & _WORD",
            "k0 + _WEYL[1] & _WORD, k1 + _WEYL[0] & _WORD",
            "_rounds",
        ),
        Bug("words come out reversed", "torch", "key.unbind(-1)), -1)", "key.unbind(-1))[::-1], -1)"),
    ),
)


# -- uniform and normal -------------------------------------------------------------------------------------------


def draw_uniform(source):
    offset = source.choice(0, source.integer(1, 99), CARRY + source.integer(-20, 20), source.integer(0, 2**60))
    sizes = (source.integer(32700, 33000),) if source.integer(0, 4) == 0 else shape(source)
    count = int(np.prod(sizes))
    source.event("odd offset", offset % 2 == 1)
    source.event("even offset", offset % 2 == 0)
    source.event("block counter carries", offset < CARRY < offset + count)
    source.event("more than a chunk", count > 2 * torch_rng._CHUNK)
    static = {name: seed_or_stream(source, name) for name in ("seed", "stream")}
    return source.case({}, shape=sizes, offset=offset, **static)


UNIFORM = Component(
    name="uniform",
    numpy=numpy_rng.uniform,
    torch=torch_rng.uniform,
    draw=draw_uniform,
    exact=True,  # 53 bits times a power of two: nothing is rounded
    dtypes=("float64",),
    outputs={"value": "float64"},
    events=(
        *("odd offset", "even offset", "block counter carries", "more than a chunk", "64-bit seed", "64-bit stream"),
        *("scalar", "empty", "odd count"),
    ),
    compiles=False,
    shapes={"showcase": lambda rng: Case({}, {"seed": 1, "stream": 3 << 32, "shape": (32, 128, 128)})},
    bugs=(
        Bug(
            "32 random bits",
            "numpy",
            "((words[:, 0::2] >> 5) * 2**26 + (words[:, 1::2] >> 6)) * 2.0**-53",
            "words[:, 0::2] * 2.0**-32",
        ),
        Bug(
            "words of a number swapped",
            "numpy",
            "(words[:, 0::2] >> 5) * 2**26 + (words[:, 1::2] >> 6)",
            "(words[:, 1::2] >> 5) * 2**26 + (words[:, 0::2] >> 6)",
        ),
        Bug(
            "shifts swapped",
            "numpy",
            "(words[:, 0::2] >> 5) * 2**26 + (words[:, 1::2] >> 6)",
            "(words[:, 0::2] >> 6) * 2**26 + (words[:, 1::2] >> 5)",
        ),
        Bug("block counter not carried", "numpy", "block >> 32", "block * 0"),
        Bug("offset counts blocks", "numpy", "start = offset - 2 * first", "start = 0"),
        Bug("offset ignored", "numpy", "+ np.uint64(first)", "+ np.uint64(0)"),
        Bug("seed and stream cut to 32 bits", "torch", "number >> 32 & _WORD", "0", "_words"),
        Bug("odd offset ignored", "torch", "skip = offset % 2", "skip = 0"),
        Bug(
            "a block holds one number twice",
            "torch",
            "((w2 >> 5) * 2**26 + (w3 >> 6))",
            "((w0 >> 5) * 2**26 + (w1 >> 6))",
        ),
        Bug("rounded to float32", "torch", "(w1 >> 6)).double()", "(w1 >> 6))"),
        Bug(
            "every chunk repeats the first", "torch", "last), device=device)", "last), device=device) - (start - first)"
        ),
        Bug("divided by 2^53 - 1", "torch", "(w1 >> 6)).double() * 2.0**-53", "(w1 >> 6)).double() / (2**53 - 1)"),
    ),
)


def draw_normal(source):
    sizes, offset = shape(source), source.choice(0, 0, 1, source.integer(0, 2**40))
    source.event("offset", offset > 0)
    return source.case(
        {}, shape=sizes, dtype=DTYPE, offset=offset, **{name: seed_or_stream(source, name) for name in ("seed", "stream")}
    )


def phase_error(seed, stream, shape, offset=0):
    """A rounding of the angle 2 pi v moves sqrt(-2 ln(1 - u)) cos(2 pi v) by that much times the root."""
    u, v = np.moveaxis(numpy_rng.uniform(seed, stream, (*shape, 2), 2 * offset), -1, 0)
    return np.sqrt(-2.0 * np.log1p(-u)) * 2.0 * np.pi * v


def angles(arguments, dy, unit):
    return {"value": phase_error(arguments["seed"], arguments["stream"], arguments["shape"], arguments["offset"])}


NORMAL = Component(
    name="normal",
    numpy=numpy_rng.normal,
    torch=torch_rng.normal,
    draw=draw_normal,
    inside="float64",
    elementwise=True,
    cancellation=angles,
    events=("64-bit seed", "64-bit stream", "scalar", "empty", "odd count", "offset"),
    compiles=False,
    shapes={"showcase": lambda rng: Case({}, {"seed": 1, "stream": 1 << 32, "shape": (512, 128), "dtype": DTYPE})},
    bugs=(
        Bug("logarithm of u", "numpy", "np.log(1.0 - u)", "np.log(u)"),
        Bug("variance 1/2", "numpy", "-2.0 * np.log", "-1.0 * np.log"),
        Bug("half a turn", "numpy", "2.0 * np.pi * v", "np.pi * v"),
        Bug("sine", "numpy", "np.cos", "np.sin"),
        Bug(
            "halves instead of pairs",
            "numpy",
            "np.moveaxis(uniform(seed, stream, (*shape, 2), 2 * offset), -1, 0)",
            "uniform(seed, stream, (2, *shape), 2 * offset)",
        ),
        Bug("offset counts uniforms", "torch", "2 * offset", "offset", needs=("offset",)),
        Bug("radius and angle swapped", "numpy", "u, v = ", "v, u = "),
        Bug("uniforms in the model's format", "torch", ".unbind(-1)", ".to(dtype).unbind(-1)"),
        Bug("radius without its root", "torch", "torch.sqrt(-2 * torch.log(1 - u1))", "(-2 * torch.log(1 - u1))"),
        Bug("base 2 logarithm", "torch", "torch.log(", "torch.log2("),
    ),
)


# -- permuted -----------------------------------------------------------------------------------------------------


def draw_permuted(source):
    power = 2 ** source.integer(1, 10)
    size = source.choice(1, 4 ** source.integer(1, 5), power, power - 1, power + 1, source.integer(1, 300), 2**40 + 1)
    if size <= 1025:
        index = source.rng.permutation(size)
    else:
        index = source.rng.integers(0, size, source.leading())
    source.event("size 1", size == 1)
    source.event("power of 4", size > 1 and size & (size - 1) == 0 and size.bit_length() % 2 == 1)
    source.event("half-filled bits", size > 1 and size & (size - 1) == 0 and size.bit_length() % 2 == 0)
    source.event("just above a power of two", size > 2 and (size - 1) & (size - 2) == 0)
    source.event("beyond 32 bits", size > 2**32)
    static = {name: seed_or_stream(source, name) for name in ("seed", "stream")}
    return source.case({"index": index}, size=size, **static)


PERMUTED = Component(
    name="permuted",
    numpy=numpy_rng.permuted,
    torch=torch_rng.permuted,
    weight=3,
    draw=draw_permuted,
    exact=True,
    dtypes=("float64",),
    events=(
        *("size 1", "power of 4", "half-filled bits", "just above a power of two", "beyond 32 bits"),
        *("64-bit seed", "64-bit stream"),
    ),
    compiles=False,  # walks until all are inside: how often depends on the data
    shapes={
        "showcase": lambda rng: Case(
            {"index": rng.integers(0, 10**6, 4096)}, {"size": 10**6, "seed": 1, "stream": 2 << 32}
        )
    },
    bugs=(
        Bug("three rounds", "numpy", "range(4)", "range(3)", "_feistel"),
        Bug("rounds all alike", "numpy", "np.full_like(right, turn)", "np.zeros_like(right)", "_feistel"),
        Bug("halves swapped at the end", "numpy", "left << half | right", "right << half | left", "_feistel"),
        Bug("third word of the block", "numpy", "[..., 0]", "[..., 2]", "_feistel"),
        Bug("one walk only", "numpy", "while (outside", "if (outside"),
        Bug("size itself counts as inside", "numpy", "value >= size", "value > size"),
        Bug("a bit too many for powers of 4", "numpy", "(size - 1).bit_length()", "size.bit_length()"),
        Bug("stream ignored", "torch", "*_words(stream)", "*_words(0)"),
        Bug("remainder instead of a walk", "torch", "torch.where(outside, shuffle(value), value)", "value % size"),
        Bug("fifth round", "torch", "words[:4]", "(*words[:4], words[3])"),
        Bug("counter words swapped", "torch", "(right, number, *words[4:])", "(number, right, *words[4:])"),
    ),
)

COMPONENTS = (PHILOX, UNIFORM, NORMAL, PERMUTED)
