"""How a token says where it stands: attention alone does not see the order of what it attends to."""

import math

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.embedding import embedding
from numpy_ref.precision import stored_once


def sinusoidal_positions(positions, width, dtype):
    """Sines and cosines of the position at wavelengths from 2 pi to 20,000 pi (arXiv:1706.03762, section 3.5).

        y[2i]     = sin(position / 10000^(2i / width))
        y[2i + 1] = cos(position / 10000^(2i / width))

    A shift by k turns every pair by a fixed angle, so relative positions are linear maps. Nothing is learned, so
    there is no vjp. Angles are computed in float64, as float32 would lose the phase at large positions, then cast.

    positions (...) of whole numbers, width even -> (..., width) of ``dtype``. Raises UserError for an odd width.
    """
    if width % 2:
        raise UserError(f"sinusoidal positions come in pairs, got width={width}; take an even width")
    wavelength = 10000.0 ** (np.arange(0, width, 2) / width)
    angle = positions[..., None] / wavelength
    pairs = np.stack((np.sin(angle), np.cos(angle)), axis=-1)
    return pairs.reshape(*positions.shape, width).astype(dtype)


def learned_positions(positions, weight):
    """Rows of a table of positions, learned like the token embedding.

        y = weight[positions]

    Shapes: positions (...) of whole numbers in range(context), weight (context, d) -> y (..., d).
    vjp: dy (..., d) -> dweight (context, d). Raises UserError for a position outside the table.
    """
    if positions.size and (positions.min() < 0 or positions.max() >= weight.shape[0]):
        raise UserError(
            f"positions from {positions.min()} to {positions.max()} were asked for, but only {weight.shape[0]} were "
            "learned; shorten the text or train with a larger context"
        )
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
    """How fast each pair of features turns, in radians a token, and how much its length is scaled.

        f_i = base^(-2i / width),    i = 0 ... width / 2 - 1                    (arXiv:2104.09864, eq. 15)

    A model can read texts ``factor`` times longer than it was trained on when its angles shrink:

        linear   f / factor: positions move closer together                     (arXiv:2306.15595, eq. 4)
        ntk      base * factor^(width / (width - 2)): the fastest pair keeps its speed, the slowest is divided by the
                 factor, those between lie between                              (arXiv:2309.00071, section 3.1)
        llama3   a pair that turns less than low_frequency times in the original context is slow: f / factor; more than
                 high_frequency times: f; between them a mixture, linear in the turns         (Llama 3.1's release)
        yarn     the same idea with a ramp over the index of the pair, from the index that turns beta_fast times in
                 the original context to the one that turns beta_slow times; and the scores grow, because queries and
                 keys are both longer by 0.1 ln(factor) + 1                     (arXiv:2309.00071, eq. 22 and 23)

    Returns (frequencies (width / 2,) in float64, length), where length is 1 but for yarn.
    """
    if scaling == "ntk":
        base = base * factor ** (width / (width - 2))
    f = base ** (-np.arange(0, width, 2) / width)
    if scaling == "linear":
        return f / factor, 1.0
    if scaling == "llama3":
        turns = original_context * f / (2 * math.pi)
        share = np.clip((turns - low_frequency) / (high_frequency - low_frequency), 0.0, 1.0)
        return share * f + (1 - share) * f / factor, 1.0
    if scaling == "yarn":
        first = max(math.floor(_pair_that_turns(beta_fast, width, base, original_context)), 0)
        last = min(math.ceil(_pair_that_turns(beta_slow, width, base, original_context)), width - 1)
        last = last + 0.001 if first == last else last  # no division by zero
        slow = np.clip((np.arange(width // 2) - first) / (last - first), 0.0, 1.0)
        return (1 - slow) * f + slow * f / factor, 0.1 * math.log(factor) + 1.0
    return f, 1.0


def _pair_that_turns(turns, width, base, context):
    """The index i, not a whole number, with context * f_i = 2 pi turns."""
    return width * math.log(context / (2 * math.pi * turns)) / (2 * math.log(base))


def rope_phases(positions, config, dtype):
    """Cosine and sine of the angle by which each pair of features turns at each position.

        angle = position * f_i

    Angles are float64 until the end: in float32 a position of a million has lost a tenth of a turn, in bfloat16 one of
    300 has lost all of it. The results are float64 for float64 and complex128, else float32.

    positions (...) of whole numbers -> (cos, sin), each (..., rotary_features / 2).
    """
    frequencies, length = rope_frequencies(
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
    angle = positions[..., None] * frequencies
    precise = np.dtype(dtype) in (np.float64, np.complex128)
    kind = np.float64 if precise else np.float32
    return (length * np.cos(angle)).astype(kind), (length * np.sin(angle)).astype(kind)


@stored_once
def rotary(x, cos, sin, interleaved=False):
    """Rotary position embedding (RoPE, arXiv:2104.09864, eq. 34): pairs of features turn with the position.

        y_a = x_a cos - x_b sin
        y_b = x_a sin + x_b cos

    A pair is (i, i + r/2) as in Llama, or (2i, 2i + 1) as in GPT-J and in the paper. Turning a query by angle(m) and a
    key by angle(n) turns their product by angle(m - n): attention sees distances, not places.

    Shapes: x (..., T, d), cos and sin broadcastable to (..., T, r/2) with r <= d -> y (..., T, d); features from r on
    pass unchanged.  vjp: dy (..., T, d) -> dx (..., T, d); the phases are constants.

    Backward. A rotation's transpose is the rotation back:

        dx_a = dy_a cos + dy_b sin
        dx_b = dy_b cos - dy_a sin
    """

    def vjp(dy):
        return _turned(dy, cos, -sin, interleaved)

    return _turned(x, cos, sin, interleaved), vjp


def _turned(x, cos, sin, interleaved):
    r = 2 * cos.shape[-1]
    turning, resting = x[..., :r], x[..., r:]
    if interleaved:
        a, b = turning[..., 0::2], turning[..., 1::2]
    else:
        a, b = turning[..., : r // 2], turning[..., r // 2 :]
    pairs = a * cos - b * sin, a * sin + b * cos
    if interleaved:
        turned = np.stack(pairs, axis=-1).reshape(turning.shape)
    else:
        turned = np.concatenate(pairs, axis=-1)
    return np.concatenate((turned, resting), axis=-1).astype(x.dtype, copy=False)


def alibi_slopes(heads):
    """How fast each head forgets (ALiBi, arXiv:2108.12409, section 3): its scores fall by slope a token of distance.

        slope_h = 2^(-8h / heads),    h = 1 ... heads,    for a power of two

    Another number of heads takes the slopes of the next lower power p, and then every second one of 2p (the authors'
    code).

    Returns (heads,) in float64.
    """
    lower = 2 ** int(math.log2(heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, lower + 1) / lower)
    between = 2.0 ** (-8.0 * np.arange(1, 2 * lower + 1, 2) / (2 * lower))
    return np.concatenate((slopes, between[: heads - lower]))
