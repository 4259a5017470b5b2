"""Declaration of round_to."""

import numpy as np

import numpy_ref.precision as numpy_precision
import torch_impl.precision as torch_precision
from parity_tests.harness.declaration import Bug, Case, Component

FORMATS = {  # bits of the fraction, smallest normal exponent, largest exponent
    "float32": (23, -126, 127),
    "bfloat16": (7, -126, 127),
    "float16": (10, -14, 15),
    "float8_e4m3fn": (3, -6, 8),
    "float8_e5m2": (2, -14, 15),
}


def draw(source):
    """Numbers all over a format and around it: ties, the next ones to ties, subnormals, overflow, and what is no number."""
    name, size = source.choice(*FORMATS), source.size(33)
    fraction, smallest, largest = FORMATS[name]
    kind = source.choice("anywhere", "ties", "beside ties", "subnormal", "largest", "special")
    exponent = source.rng.integers(smallest, largest + 1, size)
    if kind == "subnormal":
        exponent = np.full(size, smallest - fraction)
    if kind == "largest":
        exponent = np.full(size, largest)
    x = np.ldexp(1 + source.rng.random(size), exponent)
    if kind in ("ties", "beside ties"):  # an odd number of half spacings
        odd = 2 * source.rng.integers(1 << fraction, 2 << fraction, size) + 1
        x = np.ldexp(odd.astype(float), exponent - fraction - 1)
    with np.errstate(over="ignore"):
        x = np.asarray(x * source.rng.choice((-1.0, 1.0), size), np.float32)
    if kind == "beside ties":
        x = np.nextafter(x, source.rng.choice((-np.inf, np.inf), size).astype(np.float32))
    if kind == "special":
        x = source.rng.choice(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38], np.float32), size)
    source.event(name)
    source.event(kind)
    return Case({"x": x.astype(np.float64)}, {"name": name}, frozenset(source.events))


ROUND_TO = Component(
    name="round_to",
    numpy=numpy_precision.round_to,
    torch=torch_precision.round_to,
    draw=draw,
    dtypes=("float32",),
    exact=True,
    compiles=False,
    events=(*FORMATS, "anywhere", "ties", "beside ties", "subnormal", "largest", "special"),
    shapes={"showcase": lambda rng: Case({"x": rng.standard_normal(1 << 16)}, {"name": "bfloat16"})},
    flops=lambda case: 0,
    bytes=lambda case, size: 2 * size * case.arrays["x"].size,
    bugs=(
        Bug("cut off, not rounded", "numpy", "np.uint32(0x7FFF) + (bits >> 16 & 1)", "np.uint32(0)", needs=("bfloat16",)),
        Bug("ties away from zero", "numpy", "np.uint32(0x7FFF) + (bits >> 16 & 1)", "np.uint32(0x8000)", needs=("bfloat16", "ties")),
        Bug("NaN carried into infinity", "numpy", "np.where(np.isnan(x), x, rounded.view(np.float32))", "np.where(np.isnan(x), np.float32(np.inf), rounded.view(np.float32))", needs=("bfloat16", "special")),
        Bug("no subnormals", "numpy", "np.maximum(exponent, smallest)", "exponent", needs=("float8_e5m2", "subnormal")),
        Bug("ties upwards", "numpy", "np.rint(x / spacing)", "np.floor(x / spacing + 0.5)", needs=("float8_e4m3fn", "ties")),
        Bug("infinite where there is no infinity", "numpy", "np.float32(beyond)", "np.float32(np.inf)", needs=("float8_e4m3fn", "special")),
        Bug("saturates where there is an infinity", "numpy", "np.float32(beyond)", "np.float32(largest)", needs=("float8_e5m2", "special")),
        Bug("one format for all", "torch", "getattr(torch, name)", "torch.float16", needs=("bfloat16",)),
        Bug("not saturated", "torch", "x = x.clamp(-448, 448)", "x = torch.where(x.abs() > 448, torch.inf * x, x); return x", needs=("float8_e4m3fn", "special")),
        Bug("twice rounded", "torch", "x = x.float()", "x = x.half().float()", needs=("bfloat16",)),
    ),
)

COMPONENTS = (ROUND_TO,)
