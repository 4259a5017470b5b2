"""What is done to a reward before a policy learns from it. Values without gradients: to the policy a reward is a constant."""

import math

import numpy as np

NO_MOMENTS = {"count": 0, "mean": 0.0, "squares": 0.0}  # before the first reward


def update_moments(moments, rewards):
    """Count, mean and sum of squared deviations of all rewards so far, from those before and one more batch.

    With n, m, S of before and k, a, Q of the batch, d = a - m (Chan, Golub and LeVeque 1979)

        n' = n + k        m' = m + d k / n'        S' = S + Q + d^2 n k / n'

    No sum of squares is ever taken from another, so that a large mean costs no digits. Start from ``NO_MOMENTS``; a
    reference set alone (the rewards of demonstrations, arXiv:2009.01325, section 3.4) is one call.

    Shapes: rewards (B,) -> {"count", "mean", "squares"} as Python numbers. Computed in float64.
    """
    batch = rewards.astype(np.float64)
    before, more = moments["count"], batch.size
    if not more:
        return dict(moments)
    average = np.mean(batch)
    apart, count = average - moments["mean"], before + more
    squares = moments["squares"] + np.sum((batch - average) ** 2) + apart**2 * before * more / count
    return {"count": count, "mean": float(moments["mean"] + apart * more / count), "squares": float(squares)}


def normalise(rewards, moments, centre=True, eps=1e-8):
    """Rewards in deviations from the mean of those that ``moments`` has seen.

        y = (r - m) / (s + eps),    s = sqrt(S / n);    without ``centre``  y = r / (s + eps)

    Until two rewards have been seen s is 1. Shapes: rewards (...) -> (...).
    """
    known = moments["count"] >= 2
    spread = math.sqrt(moments["squares"] / moments["count"]) + eps if known else 1.0
    return (rewards - moments["mean"] if centre else rewards) / spread


def clip_rewards(rewards, limit):
    """Rewards within [-limit, limit]: one outlier shall not make the whole step. Shapes: (...) -> (...)."""
    return np.clip(rewards, -limit, limit)


def length_penalty(lengths, each, free=0):
    """-each for every token beyond the first ``free`` ones.

    Shapes: lengths (B,) of whole numbers -> (B,) float64, never above 0.
    """
    return -each * np.maximum(lengths - free, 0).astype(np.float64)


def missing_end_penalty(rewards, ended, penalty=1.0, replace=False):
    """Answers that did not end by themselves pay for it: r - penalty, or with ``replace`` -penalty whatever r was.

    The first keeps an order among them; the second (arXiv:2009.01325, its code) is for models that judge what is cut off
    as if it were whole. Shapes: rewards (B,), ended bool (B,) -> (B,).
    """
    return np.where(ended, rewards, -penalty if replace else rewards - penalty).astype(rewards.dtype)


def soft_overlong_penalty(lengths, limit, buffer, factor=1.0):
    """A slope before the limit of an answer's length in place of a cliff (DAPO, arXiv:2503.14476, eq. 13).

        0                                    n <= limit - buffer
        factor (limit - buffer - n) / buffer      between
        -factor                              n >= limit

    Shapes: lengths (B,) of whole numbers -> (B,) float64.
    """
    beyond = lengths - (limit - buffer)
    return -factor * np.clip(beyond / buffer, 0.0, 1.0)


def potential_shaping(potentials, mask, gamma=1.0):
    """Hints on the way that leave the best policy what it is (Ng, Harada and Russell 1999, theorem 1).

        f_t = gamma phi(s_{t+1}) - phi(s_t),    phi = 0 once the answer has ended

    Their discounted sum telescopes to -phi(s_0), which no action can change. Potentials that did not end in 0 would add
    gamma^T phi(s_T): a reward for ending in a likeable place.

    Shapes: potentials (B, T) of the states before each token, mask bool (B, T), True for tokens of the answer -> (B, T),
    0 where there is no token. The tokens of an answer are neighbours.
    """
    here = np.where(mask, potentials, 0.0).astype(potentials.dtype)
    after = np.concatenate((here[:, 1:], np.zeros_like(here[:, :1])), axis=1)
    return np.where(mask, gamma * after - here, 0.0).astype(potentials.dtype)


def mixture(rewards, weights, each_normalised=False, eps=1e-8):
    """Several rewards as one: sum_k w_k r_k. With ``each_normalised`` in deviations from its own mean over the batch,

        sum_k w_k (r_k - mean_k) / (s_k + eps),    s_k = sqrt(mean((r_k - mean_k)^2))

    so that no reward drowns the others by its scale (arXiv:2601.05242, "normalise, then sum").

    Shapes: rewards (K, B), weights (K,) -> (B,).
    """
    if each_normalised:
        centred = rewards - np.mean(rewards, axis=1, keepdims=True)
        rewards = centred / (np.sqrt(np.mean(centred * centred, axis=1, keepdims=True)) + eps)
    return np.sum(weights[:, None] * rewards, axis=0)
