"""How much of a vector is left at each step of a diffusion, and the vector with that much noise on it."""

import numpy as np

from numpy_ref.errors import UserError

LARGEST_BETA = 0.999  # what one step may take away: the cosine ends in 0, which no product reaches


def cosine_levels(steps, offset=0.008):
    """The share of variance that is still signal at each step: the cosine schedule (arXiv:2102.09672, eq. 17).

        f(t) = cos^2((t / T + s) / (1 + s) pi / 2),   beta_t = min(1 - f(t + 1) / f(t), 0.999)
        level_t = product over i <= t of (1 - beta_i)

    steps: T, at least 2; offset: s -> (T,) float64, falling. Raises UserError for fewer steps.
    """
    if steps < 2:
        raise UserError(f"steps={steps} make no schedule of noise; give at least 2")
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * (np.pi / 2)) ** 2
    return np.cumprod(1.0 - np.minimum(1.0 - f[1:] / f[:-1], LARGEST_BETA))


def zero_terminal_snr(levels):
    """The schedule bent so that its last step is noise alone (arXiv:2305.08891, algorithm 1).

        r_t = sqrt(level_t),   r_t' = (r_t - r_T) r_1 / (r_1 - r_T),   level_t' = r_t'^2

    Sampling begins with noise alone; training must have seen that. The first level stays what it is.

    Shapes: levels (T,), falling -> (T,).
    """
    roots = np.sqrt(levels)
    roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    return roots * roots


def noised(x, noise, levels):
    """A vector some steps into the diffusion (arXiv:2006.11239, eq. 4).

        y = sqrt(level) x + sqrt(1 - level) noise

    Shapes: x and noise (..., d), levels (...) -> (..., d);  vjp: dy -> dx. Noise and levels are constants.

    Backward: dx = sqrt(level) dy.
    """
    kept, added = np.sqrt(levels)[..., None], np.sqrt(1.0 - levels)[..., None]

    def vjp(dy):
        return dy * kept

    return kept * x + added * noise, vjp


def trailing_steps(steps, samples):
    """Which of T training steps a sampler of S steps visits, from the last on (arXiv:2305.08891, section 3.3).

        t_i = round(T - i T / S) - 1,   i = 0 ... S - 1,   halves rounded up

    It begins at T - 1, where there is noise alone. Other spacings begin later, and ask the model what it never saw.

    -> (S,) int64, falling. Raises UserError unless 1 <= S <= T.
    """
    if not 1 <= samples <= steps:
        raise UserError(f"{samples} sampling steps do not fit into {steps} steps of noise; give 1 to {steps}")
    left = np.arange(samples, 0, -1)
    return (2 * steps * left + samples) // (2 * samples) - 1
