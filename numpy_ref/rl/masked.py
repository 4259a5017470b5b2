"""Means over the tokens that count. What a mask hides may be anything, NaN too: no bit of a result depends on it."""

import numpy as np

from numpy_ref.errors import UserError


def aggregate(x, mask, by="token", denominator=None):
    """One number from the losses of all tokens.

        token       sum of x over the tokens that count / how many they are              (DAPO, arXiv:2503.14476, eq. 8)
        sequence    mean over the rows of each row's own mean                            (GRPO, arXiv:2402.03300, eq. 3)
        length      sum of x / (rows times the longest possible row)                     (Dr. GRPO, arXiv:2503.20783)

    Micro-batches and processes share one ``denominator``, that of their whole step (see ``loss_denominator``): then
    their parts add up to what the whole would have given. A mean of their means would not: it weighs tokens by how
    many others happen to be in the same part.

    Shapes: x (B, T), mask bool (B, T) -> ();  vjp: dy -> dx (B, T), 0 where the mask hides. Rows without any token count
    as nothing. Raises UserError for another ``by``.

    Backward: dx_t = dy / denominator, by sequence dy / (denominator |row|), where the mask shows.
    """
    share = mask / (np.maximum(1, np.sum(mask, axis=-1, keepdims=True)) if by == "sequence" else 1)
    share = share.astype(x.real.dtype)
    divisor = loss_denominator(mask, by) if denominator is None else denominator

    def vjp(dy):
        return share * (dy / divisor)

    return np.sum(np.where(mask, x, 0.0) * share) / divisor, vjp


def loss_denominator(mask, by="token", length=None):
    """What the sum in ``aggregate`` is divided by, at least 1: tokens, rows that have any, or rows times ``length``.

    ``length``: tokens of the longest completion that could have been (None: as many as there are columns); only then is
    a token worth the same in every batch. -> a whole number.
    """
    if by == "token":
        return max(1, int(np.sum(mask)))
    if by == "sequence":
        return max(1, int(np.sum(np.any(mask, axis=-1))))
    if by == "length":
        return max(1, len(mask) * (mask.shape[-1] if length is None else length))
    raise UserError(f'by={by!r} is not allowed; losses are averaged by "token", "sequence" or "length"')


def whiten(x, mask, shift_mean=True, eps=1e-8):
    """Values of mean 0 and variance 1 over the tokens that count, 0 elsewhere (as PPO's advantages: arXiv:2006.05990,
    C64).

        y = (x - mean) / sqrt(var + eps),    var = sum (x - mean)^2 / (n - 1)

    shift_mean=False only divides by the deviation: y + mean / sqrt(var + eps), for rewards, whose sign says something. Of a single token nothing can be
    said: the variance is taken to be 0. Shapes: x (B, T), mask bool (B, T) -> (B, T). Advantages are no function of the
    parameters, so there is no vjp.
    """
    count = int(np.sum(mask))
    x = np.where(mask, x, 0.0)
    mean = np.sum(x) / max(1, count)
    centred = np.where(mask, x - mean, 0.0)
    variance = np.sum(centred * centred) / max(1, count - 1)
    y = centred if shift_mean else x
    return y / np.sqrt(variance + eps)


def explained_variance(values, returns, mask):
    """How much of the returns' variance the critic foresaw: 1 all, 0 none (a constant does as well), below 0 less.

        1 - var(returns - values) / var(returns)        0 where all returns are equal

    Shapes: values, returns, mask (B, T) -> (). No vjp.
    """
    count = max(1, int(np.sum(mask)))

    def variance(x):
        x = np.where(mask, x, 0.0)
        centred = np.where(mask, x - np.sum(x) / count, 0.0)
        return np.sum(centred * centred) / count

    total = variance(returns)
    seen = np.where(mask, returns, 0.0)
    spread = np.max(np.where(mask, seen, -np.inf), initial=-np.inf) > np.min(np.where(mask, seen, np.inf), initial=np.inf)
    missed = variance(np.where(mask, returns, 0.0) - np.where(mask, values, 0.0))
    return 1.0 - missed / total if spread else np.zeros_like(total)
