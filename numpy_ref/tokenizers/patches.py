"""Where a text of bytes is cut into patches, the units of a model that has no tokens (arXiv:2412.09871, section 2).

A patcher answers for T bytes whether a patch begins before byte t, for t = 0 ... T: T + 1 answers, the last of them about
the byte that is still to come. Every answer depends on the bytes before t alone. Otherwise the border itself would tell
about the byte that the model has to predict: in training it would know more than when it writes.

The first byte is always a patch of its own. So wherever a byte is to be predicted, some patch is complete.
"""

import math

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.softmax import log_softmax


def static_starts(tokens, size):
    """A patch every ``size`` bytes, after the first byte.

    Shapes: tokens (B, T) -> bool (B, T + 1). Raises UserError for a size below 1.
    """
    if size < 1:
        raise UserError(f"patches of {size} bytes are not possible; give a size of at least 1")
    place = np.arange(tokens.shape[1] + 1)
    return np.broadcast_to((place == 0) | ((place - 1) % size == 0), (len(tokens), len(place))).copy()


def space_starts(tokens):
    """Patches that end with a space or its like (arXiv:2404.14408, section 3).

    Spacelike is a byte that is no letter, no digit and no continuation of a UTF-8 character. A patch begins behind a
    spacelike byte, unless the byte before that is spacelike too: of "a   b" only the first space ends a patch.

    Shapes: tokens (B, T) of bytes -> bool (B, T + 1).
    """
    letter = (tokens | 32 >= ord("a")) & (tokens | 32 <= ord("z")) & (tokens < 128)
    digit = (tokens >= ord("0")) & (tokens <= ord("9"))
    spacelike = ~(letter | digit | (tokens >> 6 == 0b10))
    starts = np.zeros((len(tokens), tokens.shape[1] + 1), bool)
    starts[:, 2:] = spacelike[:, 1:] & ~spacelike[:, :-1]
    return _with_first(starts)


def entropy_starts(entropies, threshold, monotonic=False):
    """A patch begins where the next byte is hard to predict (section 2.3 of the paper).

        global:     H_t > threshold                    monotonic:     H_t - H_{t-1} > threshold

    Shapes: entropies (B, T + 1) as from ``next_byte_entropies``, in nats -> bool (B, T + 1).
    Raises UserError for a threshold that is no number.
    """
    if math.isnan(threshold):
        raise UserError("the threshold of the entropy is no number; give one in nats, such as 1.3")
    starts = entropies > threshold
    if monotonic:
        starts[:, 1:] = entropies[:, 1:] - entropies[:, :-1] > threshold
    return _with_first(starts)


def next_byte_entropies(logits):
    """The entropy of a byte model's prediction of each byte, in nats.

        H_t = - sum over bytes v of p(v | bytes before t) ln p(v | bytes before t)

    Shapes: logits (B, T, V), where those at t - 1 predict byte t -> (B, T + 1); nothing predicts byte 0: H_0 = ln V.
    """
    logs, _ = log_softmax(logits)
    entropies = -np.sum(np.exp(logs) * logs, axis=-1)
    unknown = np.full_like(entropies, math.log(logits.shape[-1]), shape=(len(logits), 1))
    return np.concatenate([unknown, entropies], axis=1)


def limited(starts, longest):
    """The same borders, and more of them where a patch would have more than ``longest`` bytes.

    Shapes: starts bool (B, T + 1) -> (B, T + 1). Raises UserError for a length below 1.
    """
    if longest < 1:
        raise UserError(f"patches of at most {longest} bytes are not possible; give a length of at least 1")
    place = np.arange(starts.shape[1])
    begin = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    return (place - begin) % longest == 0


def patch_ids(starts):
    """The patch that each byte is in: bool (B, T + 1) -> (B, T) int64, from 0."""
    return np.cumsum(starts[:, :-1], axis=1) - 1


def complete_ids(starts):
    """The last patch that is complete at each byte, which is what the prediction of the next byte may know about.

    The patch of byte t is complete if a patch begins before byte t + 1.
    Shapes: bool (B, T + 1) -> (B, T) int64, from 0.
    """
    return np.cumsum(starts, axis=1)[:, 1:] - 2


def _with_first(starts):
    """The first byte as a patch of its own."""
    starts = starts.copy()
    starts[:, :2] = True
    return starts
