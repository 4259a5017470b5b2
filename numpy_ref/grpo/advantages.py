"""How much better than its siblings an answer was."""

import numpy as np

from numpy_ref.errors import UserError


def group_advantages(rewards, kind="deviation", valid=None, eps=1e-4):
    """Each completion's reward beside those of the other completions of its prompt.

        deviation    (R - mean) / (s + eps),  s^2 = sum (R - mean)^2 / (n - 1)      GRPO, arXiv:2402.03300, section 4.1.2
        mean         R - mean                                                       Dr. GRPO, arXiv:2503.20783
        rloo         R - mean of the others = n / (n - 1) (R - mean)                arXiv:2402.14740, eq. 4

    Dividing by s makes one stray success among eight as large an event as four: 2.47 instead of 0.875. A group whose
    rewards are all equal says nothing, and one completion alone neither: their advantages are exactly 0, not what
    rounding leaves of a mean, blown up by 1 / eps.

    rewards: (P, G), a row for each prompt. valid: bool (P, G) or None; completions without a valid reward take no part and have 0.
    -> (P, G). No vjp. Raises UserError for another kind, and for groups of one under "deviation" or "rloo", which can't
    ever learn anything.
    """
    if kind not in ("deviation", "mean", "rloo"):
        raise UserError(f'kind={kind!r} is not allowed; advantages are by "deviation", "mean" or "rloo"')
    if rewards.shape[1] == 1 and kind != "mean":
        raise UserError(f"groups of 1 completion have no {kind} to compare with; take a group of at least 2")
    valid = np.ones(rewards.shape, bool) if valid is None else valid
    rewards = np.where(valid, rewards, 0.0)
    count = np.sum(valid, axis=-1, keepdims=True).astype(rewards.dtype)
    centred = np.where(valid, rewards - np.sum(rewards, axis=-1, keepdims=True) / np.maximum(1, count), 0.0)
    others = np.maximum(1, count - 1)
    if kind == "deviation":
        centred = centred / (np.sqrt(np.sum(centred * centred, axis=-1, keepdims=True) / others) + eps)
    elif kind == "rloo":
        centred = centred * count / others
    return np.where(informative(rewards, valid)[:, None], centred, 0.0)


def informative(rewards, valid=None):
    """Which groups have two different rewards: the others teach nothing (DAPO's dynamic sampling, arXiv:2503.14476, eq.
    11, leaves them out). Shapes: rewards (P, G), valid bool (P, G) or None -> bool (P,)."""
    valid = np.ones(rewards.shape, bool) if valid is None else valid
    largest = np.max(np.where(valid, rewards, -np.inf), axis=-1)
    return largest > np.min(np.where(valid, rewards, np.inf), axis=-1)
