"""Declarations of sinusoidal and learned positions, RoPE and ALiBi."""

import math

import numpy as np

import numpy_ref.model.positions as numpy_positions
import torch_impl.model.positions as torch_positions
from numpy_ref.config import ROPE_SCALINGS, ModelConfig
from parity_tests.harness.declaration import DTYPE, Bug, Case, Component


def draw_sinusoidal(source):
    shape = (*source.leading(1), source.size())
    far = source.flag()
    positions = source.rng.integers(0, 100_000 if far else 300, shape)
    source.event("far position", far)
    width = 2 * source.size(33)
    source.event("width 2", width == 2)
    return source.case({"positions": positions}, width=width, dtype=DTYPE)


def phase_error(arguments, dy, unit):
    """A rounding of the angle shifts the phase by that much; one of the exponent counts ln 10000 times."""
    width = arguments["width"]
    angle = arguments["positions"][..., None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    return {"value": np.repeat(angle, 2, axis=-1) * (1 + math.log(10000))}


SINUSOIDAL = Component(
    name="sinusoidal_positions",
    numpy=numpy_positions.sinusoidal_positions,
    torch=torch_positions.sinusoidal_positions,
    draw=draw_sinusoidal,
    inside="float64",
    cancellation=phase_error,
    elementwise=True,
    events=("far position", "width 2"),
    shapes={
        "small": lambda rng: Case({"positions": np.arange(9)}, {"width": 16, "dtype": DTYPE}),
        "showcase": lambda rng: Case({"positions": np.arange(128)}, {"width": 128, "dtype": DTYPE}),
    },
    flops=lambda case: 3 * case.arrays["positions"].size * case.static["width"],
    bytes=lambda case, size: case.arrays["positions"].size * (8 + size * case.static["width"]),
    bugs=(
        Bug("cosine first", "numpy", "(np.sin(angle), np.cos(angle))", "(np.cos(angle), np.sin(angle))"),
        Bug("halves instead of pairs", "numpy", "axis=-1)", "axis=-2)"),
        Bug("base 1000", "numpy", "10000.0 **", "1000.0 **"),
        Bug("positions from 1", "numpy", "positions[..., None]", "(positions[..., None] + 1)"),
        Bug(
            "exponent per feature, not per pair",
            "numpy",
            "np.arange(0, width, 2) / width",
            "np.arange(0, width // 2) / width",
        ),
        Bug("angles in float32", "torch", "dtype=torch.float64", "dtype=torch.float32"),
        Bug(
            "positions in the model's format",
            "torch",
            ".double()[..., None]",
            ".to(dtype)[..., None]",
            dtype="bfloat16",
        ),
    ),
)


def draw_learned(source):
    context, width = source.size(40, least=2), source.size()
    shape = (*source.leading(1), source.integer(1, context))
    ordered = source.flag()
    positions = np.broadcast_to(np.arange(shape[-1]), shape).copy() if ordered else source.tokens(shape, context)
    source.event("in order", ordered)
    return source.case({"positions": positions, "weight": source.array("weight", (context, width))})


LEARNED = Component(
    name="learned_positions",
    numpy=numpy_positions.learned_positions,
    torch=torch_positions.learned_positions,
    draw=draw_learned,
    differentiable=("weight",),
    inside="float32",
    events=("in order", "repeated token", "last token"),
    shapes={"small": lambda rng: Case({"positions": np.arange(7), "weight": rng.standard_normal((9, 16))})},
    flops=lambda case: 0,
    bytes=lambda case, size: case.arrays["positions"].size * (8 + 2 * size * case.arrays["weight"].shape[1]),
    bugs=(
        Bug("table read backwards", "numpy", "embedding(positions, ", "embedding(weight.shape[0] - 1 - positions, "),
        Bug(
            "counted from the end of the text",
            "numpy",
            "embedding(positions, ",
            "embedding(positions.max() - positions, ",
        ),
        Bug(
            "scaled like the tokens",
            "numpy",
            "embedding(positions, weight)",
            "embedding(positions, weight, weight.shape[1] ** 0.5 + 1)",
        ),
        Bug(
            "positions ignored",
            "torch",
            "embedding(positions, ",
            "embedding(torch.arange(positions.shape[-1]).expand(positions.shape), ",
        ),
        Bug(
            "no gradient",
            "torch",
            "embedding(positions, weight)",
            "embedding(positions, weight.detach()) + 0 * weight.sum()",
        ),
    ),
)


def draw_frequencies(source):
    width, scaling = 2 * source.size(33, least=2), source.choice(*ROPE_SCALINGS)
    static = {
        "width": width,
        "base": source.choice(10000.0, 500000.0, 100.0),
        "scaling": scaling,
        "factor": source.choice(1.0, 4.0, 32.0),
        "original_context": source.choice(64, 2048, 8192),
        "low_frequency": source.choice(1.0, 0.5),
        "high_frequency": source.choice(4.0, 8.0),
        "beta_fast": source.choice(32.0, 8.0),
        "beta_slow": source.choice(1.0, 2.0),
    }
    source.event(scaling)
    source.event("factor 1", static["factor"] == 1)
    return source.case({}, **static)


def as_arrays(function, arguments):
    """Frequencies and length side by side: the harness compares arrays."""
    frequencies, length = function(**arguments)
    return {"frequencies": frequencies, "length": np.array(length)}


def exponent_error(arguments, dy, unit):
    """A rounding of the exponent, or of the logarithm of the base, counts as often as it is large."""
    frequencies, _ = numpy_positions.rope_frequencies(**arguments)
    return {"value[frequencies]": frequencies * (2 + 2 * math.log(arguments["base"]) + 2 * math.log(32))}


FREQUENCIES = Component(
    name="rope_frequencies",
    numpy=numpy_positions.rope_frequencies,
    torch=torch_positions.rope_frequencies,
    draw=draw_frequencies,
    call=as_arrays,
    dtypes=("float64",),
    elementwise=True,
    cancellation=exponent_error,
    compiles=False,
    events=(*ROPE_SCALINGS, "factor 1"),
    bugs=(
        Bug("exponent i / width", "numpy", "np.arange(0, width, 2) / width", "np.arange(0, width // 2) / width"),
        Bug("scaling parsed but not applied", "numpy", 'scaling == "linear"', 'scaling == "linearly"'),
        Bug("ntk exponent of 1", "numpy", "(width / (width - 2))", "1"),
        Bug("llama3: blend the wrong way", "numpy", "share * f + (1 - share) * f / factor", "(1 - share) * f + share * f / factor"),
        Bug("llama3: turns in radians", "numpy", "original_context * f / (2 * math.pi)", "original_context * f"),
        Bug("yarn: length left out", "numpy", "0.1 * math.log(factor) + 1.0", "1.0"),
        Bug("yarn: ramp upside down", "numpy", "(1 - slow) * f + slow * f / factor", "slow * f + (1 - slow) * f / factor"),
        Bug("yarn: betas swapped", "numpy", "_pair_that_turns(beta_fast,", "_pair_that_turns(beta_slow,"),
        Bug("yarn: length squared", "torch", "length = 0.1 * math.log(factor) + 1", "length = (0.1 * math.log(factor) + 1) ** 2"),
        Bug("yarn: not clipped at the ends", "torch", ".clamp(0, 1)", ""),
        Bug("yarn: ramp over features", "torch", "(pairs / 2 - low)", "(pairs - low)"),
        Bug("ntk: base not changed", "torch", 'if scaling == "ntk":', 'if scaling == "NTK":'),
        Bug("llama3: factor on the fast pairs", "torch", "wavelength < original_context / high_frequency, theta, theta_slow", "wavelength < original_context / high_frequency, theta / factor, theta_slow"),
        Bug("frequencies in float32", "torch", "pairs = torch.arange(0, width, 2, dtype=torch.float64)", "pairs = torch.arange(0, width, 2, dtype=torch.float64)\n    base = float(torch.tensor(base * (1 + 1e-7), dtype=torch.float32))"),
    ),
)


def draw_phases(source):
    features = 2 * source.size(17, least=2)
    scaling = source.choice(*ROPE_SCALINGS)
    config = ModelConfig(
        width=features, heads=1, positions="rope", rope_base=source.choice(10000.0, 500000.0), rope_scaling=scaling,
        rope_factor=4.0, rope_original_context=64, rope_fraction=source.choice(1.0, 0.5) if features % 4 == 0 and features > 4 else 1.0,
    )  # fmt: skip
    reach = source.choice(1_000_000, 300, 20)
    positions = source.rng.integers(-1, reach, (*source.leading(1), source.size(17)))
    source.event("far position", reach == 1_000_000)
    source.event("padding", bool((positions < 0).any()))
    source.event("partial", config.rope_fraction < 1)
    source.event(scaling)
    return source.case({"positions": positions}, config=config, dtype=DTYPE)


def rotary_error(arguments, dy, unit):
    """As for the sinusoids: a rounding of the frequency is multiplied by the position."""
    config = arguments["config"]
    angle = np.abs(arguments["positions"][..., None]) * numpy_positions.rope_frequencies(
        config.rotary_features, config.rope_base
    )[0]
    size = 2 * angle * (4 + 2 * math.log(config.rope_base))
    return {"value[0]": size, "value[1]": size}


WIDE = {"float64": "float64", "float32": "float32", "bfloat16": "float32", "float16": "float32"}
PHASES = Component(
    name="rope_phases",
    numpy=numpy_positions.rope_phases,
    torch=torch_positions.rope_phases,
    draw=draw_phases,
    inside="float64",
    outputs={"value[0]": WIDE, "value[1]": WIDE},
    cancellation=rotary_error,
    elementwise=True,
    compiles=False,
    events=("far position", "padding", "partial", *ROPE_SCALINGS),
    weight=2,
    bugs=(
        Bug("positions from 1", "numpy", "positions[..., None]", "(positions[..., None] + 1)"),
        Bug("sine and cosine swapped", "numpy", "(length * np.cos(angle)).astype(kind), (length * np.sin(angle)).astype(kind)", "(length * np.sin(angle)).astype(kind), (length * np.cos(angle)).astype(kind)"),
        Bug("scaling not passed on", "numpy", "config.rope_scaling,", '"none",'),
        Bug("length on the cosine alone", "numpy", "(length * np.sin(angle))", "np.sin(angle)"),
        Bug("positions in the model's format", "torch", ".double()[..., None]", ".to(dtype).double()[..., None]", dtype="bfloat16"),
        Bug("base not passed on", "torch", "config.rope_base,", "10000.0 + 1,", function="config_frequencies"),
        Bug("factor not passed on", "torch", "config.rope_factor,", "1.0,", function="config_frequencies"),
        Bug("all features turn", "torch", "config.rotary_features,", "config.head_features,", function="config_frequencies"),
    ),
)


def draw_rotary(source):
    lead, length, pairs, rest = source.leading(), source.size(17), source.size(17), source.choice(0, 1, 5)
    angle = source.rng.uniform(-4, 4, (length, pairs)) * source.choice(1.0, 1.0, 100.0)
    stretch = source.choice(1.0, 1.3)
    interleaved = source.flag()
    source.event("interleaved", interleaved)
    source.event("half-split", not interleaved)
    source.event("partial", rest > 0)
    source.event("one pair", pairs == 1)
    arrays = {
        "x": source.array("x", (*lead, length, 2 * pairs + rest)),
        "cos": stretch * np.cos(angle),
        "sin": stretch * np.sin(angle),
    }
    return source.case(arrays, interleaved=interleaved)


def fixed_rotary(*size):
    def build(rng):
        angle = rng.uniform(-4, 4, (size[-2], size[-1] // 2))
        return Case({"x": rng.standard_normal(size), "cos": np.cos(angle), "sin": np.sin(angle)})

    return build


ROTARY = Component(
    name="rotary",
    numpy=numpy_positions.rotary,
    torch=torch_positions.rotary,
    draw=draw_rotary,
    differentiable=("x",),
    events=("interleaved", "half-split", "partial", "one pair", "strided", "expanded"),
    shapes={"small": fixed_rotary(2, 3, 5, 8), "showcase": fixed_rotary(32, 8, 128, 16), "wide": fixed_rotary(8, 6, 256, 64)},
    flops=lambda case: 3 * case.arrays["x"].size,
    bytes=lambda case, size: 2 * size * case.arrays["x"].size,
    bugs=(
        Bug("pairs of the other convention", "numpy", "if interleaved:\n        a, b", "if not interleaved:\n        a, b", "_turned"),
        Bug("turned the other way", "numpy", "a * cos - b * sin, a * sin + b * cos", "a * cos + b * sin, b * cos - a * sin", "_turned"),
        Bug("backward turns on", "numpy", "_turned(dy, cos, -sin, interleaved)", "_turned(dy, cos, sin, interleaved)"),
        Bug("resting features forgotten in the backward", "numpy", "_turned(dy, cos, -sin, interleaved)", "_turned(dy, cos, -sin, interleaved) * (np.arange(x.shape[-1]) < 2 * cos.shape[-1])"),
        Bug("phases of the next token", "numpy", "r = 2 * cos.shape[-1]", "r, cos, sin = 2 * cos.shape[-1], np.roll(cos, 1, axis=-2), np.roll(sin, 1, axis=-2)", "_turned"),
        Bug("always half-split", "torch", "if interleaved else", "if False else", "_turned"),
        Bug("plus for minus", "torch", "addcmul_(b, sin, value=-1)", "addcmul_(b, sin)", "_turned"),
        Bug("phases in bfloat16", "torch", "r = 2 * cos.shape[-1]", "r, cos, sin = 2 * cos.shape[-1], cos.bfloat16(), sin.bfloat16()", "_turned"),
        Bug("resting features not copied", "torch", "y[..., r:] = wide[..., r:]", "y[..., r:] = 0", "_turned"),
        Bug("turned on by the way back", "torch", "_Rotary.apply(dy, cos, -sin,", "_Rotary.apply(dy, cos, sin,", "_Rotary"),
    ),
)

ALIBI = Component(
    name="alibi_slopes",
    numpy=numpy_positions.alibi_slopes,
    torch=torch_positions.alibi_slopes,
    draw=lambda source: _heads(source),
    dtypes=("float64",),
    elementwise=True,
    compiles=False,
    events=("power of two", "other number"),
    bugs=(
        Bug("exponent from 0", "numpy", "np.arange(1, lower + 1) / lower", "np.arange(0, lower) / lower"),
        Bug("the series of the next power", "numpy", "/ (2 * lower))", "/ lower)"),
        Bug("the other half of 2p", "numpy", "np.arange(1, 2 * lower + 1, 2)", "np.arange(2, 2 * lower + 2, 2)"),
        Bug("one series for any number", "torch", "slopes = series(below)", "slopes = series(heads) if heads != below else series(below)"),
        Bug("4 for 8", "torch", "2 ** (-8 * (i + 1) / n)", "2 ** (-4 * (i + 1) / n)"),
    ),
)


def _heads(source):
    heads = source.integer(1, 40)
    source.event("power of two", heads & (heads - 1) == 0)
    source.event("other number", heads & (heads - 1) != 0)
    return source.case({}, heads=heads)


COMPONENTS = (SINUSOIDAL, LEARNED, FREQUENCIES, PHASES, ROTARY, ALIBI)
