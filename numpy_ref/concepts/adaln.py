"""What tells a denoiser how much noise there is: norms whose shift, scale and gate depend on the step (AdaLN-zero)."""

import numpy as np

from numpy_ref.errors import UserError

PERIOD = 10000.0  # of the slowest pair, over 2 pi


def time_features(times, width, dtype):
    """Cosines and sines of a step at many speeds (arXiv:2212.09748, code; arXiv:1706.03762, section 3.5).

        f_i = 10000^(-2i / width),   y = (cos(t f_0), ..., cos(t f_h), sin(t f_0), ..., sin(t f_h))

    Angles are float64, the result has the format asked for.
    Shapes: times (...) of whole numbers, width even -> (..., width). Raises UserError for an odd width.
    """
    if width % 2:
        raise UserError(f"width={width} has no pairs of cosine and sine; give an even width")
    speeds = PERIOD ** (-np.arange(width // 2) / (width // 2))
    angles = times[..., None] * speeds
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1).astype(dtype)


def modulate(x, shift, scale):
    """Features shifted and scaled, each place by numbers of its own (FiLM, arXiv:1709.07871; DiT, arXiv:2212.09748).

        y = (1 + scale) x + shift

    Shapes: all (..., d);  vjp: dy -> dx, dshift, dscale.

    Backward: dx = (1 + scale) dy, dshift = dy, dscale = x dy.
    """

    def vjp(dy):
        return dy * (1.0 + scale), dy.copy(), dy * x

    return (1.0 + scale) * x + shift, vjp


def gated(x, branch, gate):
    """A residual whose branch is let in by a gate: y = x + gate branch.

    The gates begin with 0 ("AdaLN-zero"): a new block is the identity, and at the first step nothing but the gates has a
    gradient.

    Shapes: all (..., d);  vjp: dy -> dx, dbranch, dgate.

    Backward: dx = dy, dbranch = gate dy, dgate = branch dy.
    """

    def vjp(dy):
        return dy.copy(), dy * gate, dy * branch

    return x + gate * branch, vjp
