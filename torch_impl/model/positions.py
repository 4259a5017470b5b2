"""Where a token stands, as a vector added to its embedding."""

import math

import torch

from numpy_ref.errors import UserError
from torch_impl.model.embedding import embedding

TORCH_ONLY = {"config_frequencies"}
TORCH_EXTRA_ARGUMENTS = {"frequencies"}


def sinusoidal_positions(positions, width, dtype):
    """Sines and cosines of geometrically spaced wavelengths ("Attention Is All You Need" §3.5).

        y[2i] = sin(position / 10000^(2i/width))        y[2i+1] = cos(position / 10000^(2i/width))

    Shapes: positions (...) integers -> (..., width) in ``dtype``. Angles are float64 until the end: in 16 bits the
    position itself would be rounded from 257 on. UserError for an odd width.
    """
    if width % 2:
        raise UserError(f"sines and cosines come in pairs, so width={width} must be even; add or remove a feature")
    place = "cpu" if positions.device.type == "mps" else positions.device  # MPS has no float64
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device=place) * (-math.log(10000) / width)
    angle = positions.to(place).double()[..., None] * exponent.exp()
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(-2).to(dtype).to(positions.device)


def learned_positions(positions, weight):
    """Rows of a trained table, one for each position. Shapes: positions (...), weight (context, d) -> (..., d)."""
    return embedding(positions, weight)


def rope_frequencies(
    width,
    base=10000.0,
    scaling="none",
    factor=1.0,
    original_context=0,
    low_frequency=1.0,
    high_frequency=4.0,
    beta_fast=32.0,
    beta_slow=1.0,
):
    """Radians a token by which each pair of features turns, and the factor on the length of queries and keys.

    RoPE (arXiv:2104.09864 §3.2.2) has theta_i = base^(-2i/width). To read ``factor`` times as far:

        linear  theta / factor                                      position interpolation, arXiv:2306.15595
        ntk     base -> base * factor^(width/(width-2))             arXiv:2309.00071 §3.1
        llama3  wavelength 2 pi/theta above original/low: theta/factor; below original/high: theta; between, a blend
        yarn    a ramp between the pairs that turn beta_fast and beta_slow times in the original context; the
                attention temperature goes into the length, 0.1 ln(factor) + 1    arXiv:2309.00071 §3.2, §3.4

    Returns (float64 tensor (width/2,) on the CPU, float).
    """
    if scaling == "ntk":
        base *= factor ** (width / (width - 2))
    pairs = torch.arange(0, width, 2, dtype=torch.float64)
    theta, length = torch.pow(torch.tensor(base, dtype=torch.float64), -pairs / width), 1.0
    if scaling == "linear":
        theta = theta / factor
    elif scaling == "llama3":
        wavelength = 2 * math.pi / theta
        smooth = (original_context / wavelength - low_frequency) / (high_frequency - low_frequency)
        blended = (1 - smooth) * theta / factor + smooth * theta
        theta_slow = torch.where(wavelength > original_context / low_frequency, theta / factor, blended)
        theta = torch.where(wavelength < original_context / high_frequency, theta, theta_slow)
    elif scaling == "yarn":

        def pair_with(turns):
            return width * math.log(original_context / (turns * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(pair_with(beta_fast)), 0)
        high = min(math.ceil(pair_with(beta_slow)), width - 1)
        ramp = ((pairs / 2 - low) / (high - low or 0.001)).clamp(0, 1)
        theta = theta * (1 - ramp) + theta / factor * ramp
        length = 0.1 * math.log(factor) + 1
    return theta, length


def rope_phases(positions, config, dtype, frequencies=None):
    """(cos, sin) of position * theta for each pair, times the length factor.

    Shapes: positions (...) integers -> two (..., rotary_features / 2), float64 if ``dtype`` is, else float32. The
    angles are float64: a position of 100,000 in float32 is off by up to 0.004 of a turn, in bfloat16 by 250 tokens.
    ``frequencies``: what ``config_frequencies`` gave, for callers that ask at every token.
    """
    theta, length = frequencies or config_frequencies(config)
    place = "cpu" if positions.device.type == "mps" else positions.device  # MPS has no float64
    angle = positions.to(place).double()[..., None] * theta.to(place)
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    return tuple((length * wave).to(kept).to(positions.device) for wave in (angle.cos(), angle.sin()))


def config_frequencies(config):
    """``rope_frequencies`` as a model's config has them."""
    return rope_frequencies(
        config.rotary_features,
        config.rope_base,
        config.rope_scaling,
        config.rope_factor,
        config.rope_original_context,
        config.rope_low_frequency,
        config.rope_high_frequency,
        config.rope_beta_fast,
        config.rope_beta_slow,
    )


def rotary(x, cos, sin, interleaved=False):
    """Rotates pairs of features (arXiv:2104.09864 eq. 34): (i, i + r/2), or neighbours (2i, 2i + 1) if interleaved.

        (a, b) -> (a cos - b sin, a sin + b cos)

    Shapes: x (..., T, d), cos and sin broadcastable to (..., T, r/2); features from r on pass. -> (..., T, d) in the
    format of x. 16-bit inputs are turned in float32 and rounded once.
    """
    return _Rotary.apply(x, cos, sin, interleaved)


class _Rotary(torch.autograd.Function):
    """Turned by hand: the way back is a turn by minus the angle."""

    @staticmethod
    def forward(ctx, x, cos, sin, interleaved):
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return _turned(x, cos, sin, interleaved)

    @staticmethod
    def backward(ctx, dy):
        cos, sin = ctx.saved_tensors
        return _Rotary.apply(dy, cos, -sin, ctx.interleaved), None, None, None


def _turned(x, cos, sin, interleaved):
    """(a cos - b sin, a sin + b cos) of each pair, written to where the pair was."""
    r = 2 * cos.shape[-1]
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    y = torch.empty_like(wide)
    parts = (slice(0, r, 2), slice(1, r, 2)) if interleaved else (slice(0, r // 2), slice(r // 2, r))
    a, b = (wide[..., part] for part in parts)
    if torch.compiler.is_compiling():  # which fuses, and takes no strided ``out``
        y[..., parts[0]], y[..., parts[1]] = a * cos - b * sin, a * sin + b * cos
    else:
        first, second = (y[..., part] for part in parts)
        torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
        torch.mul(a, sin, out=second).addcmul_(b, cos)
    y[..., r:] = wide[..., r:]
    return y.to(x.dtype)


def alibi_slopes(heads):
    """Slopes of ALiBi (arXiv:2108.12409 §3): a geometric series from 2^(-8/n) with that ratio for n a power of two.

    Otherwise the series of the power of two below, filled up with every other slope of the power above.
    Returns (heads,) float64.
    """

    def series(n):
        return [2 ** (-8 * (i + 1) / n) for i in range(n)]

    below = 1 << (heads.bit_length() - 1)
    slopes = series(below) + series(2 * below)[0::2][: heads - below]
    return torch.tensor(slopes, dtype=torch.float64)
