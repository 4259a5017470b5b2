"""Patches of bytes (arXiv:2412.09871 §2): borders (B, T + 1) for T bytes, each known from the bytes before it.

Borders stay on the device of the bytes; the first byte is always a patch of its own.
"""

import math

import torch
import torch.nn.functional as F

from numpy_ref.errors import UserError


def static_starts(tokens, size):
    """Borders after the first byte and then every ``size`` bytes. Shapes: tokens (B, T) -> bool (B, T + 1)."""
    if size < 1:
        raise UserError(f"a patch can't have {size} bytes; give a size of at least 1")
    place = torch.arange(tokens.shape[1] + 1, device=tokens.device)
    return ((place == 0) | ((place - 1) % size == 0)).expand(len(tokens), -1).clone()


def space_starts(tokens):
    """Borders behind spacelike bytes (arXiv:2404.14408 §3): no letter, no digit, no UTF-8 continuation; behind the first
    of several. Shapes: tokens (B, T) bytes -> bool (B, T + 1)."""
    spacelike = _spacelike(tokens.device)[tokens.long()]
    ends = spacelike[:, 1:] & ~spacelike[:, :-1]
    return F.pad(ends, (min(2, tokens.shape[1] + 1), 0), value=True)


def entropy_starts(entropies, threshold, monotonic=False):
    """Borders where the entropy of the next byte, or its rise if ``monotonic``, is above the threshold (§2.3).

    Shapes: entropies (B, T + 1) in nats -> bool (B, T + 1).
    """
    if math.isnan(threshold):
        raise UserError("a threshold that is no number cuts nothing; give one in nats, such as 1.3")
    above = (entropies.diff(dim=1) if monotonic else entropies[:, 1:]) > threshold
    return F.pad(above[:, 1:], (min(2, entropies.shape[1]), 0), value=True)


def next_byte_entropies(logits):
    """Entropy in nats of the prediction of each byte; of the first, which nothing predicts, ln V.

    Shapes: logits (B, T, V) -> (B, T + 1), in the format of the logits; 16-bit logits are computed on in float32.
    """
    rows = logits.float() if logits.itemsize == 2 else logits
    logs = torch.log_softmax(rows, -1)
    entropies = -(logs.exp() * logs).sum(-1)
    return F.pad(entropies, (1, 0), value=math.log(logits.shape[-1])).to(logits.dtype)


def limited(starts, longest):
    """More borders, so that no patch has more than ``longest`` bytes. Shapes: bool (B, T + 1) -> (B, T + 1)."""
    if longest < 1:
        raise UserError(f"a patch can't have at most {longest} bytes; give a length of at least 1")
    place = torch.arange(starts.shape[1], device=starts.device)
    begin = torch.where(starts, place, 0).cummax(1).values
    return (place - begin) % longest == 0


def patch_ids(starts):
    """The patch of each byte. Shapes: bool (B, T + 1) -> (B, T) int64."""
    return starts[:, :-1].cumsum(1) - 1


def complete_ids(starts):
    """The last complete patch at each byte: what the next byte's prediction may know. (B, T + 1) -> (B, T) int64."""
    return starts.cumsum(1)[:, 1:] - 2


def _spacelike(device):
    byte = torch.arange(256, device=device)
    letter = ((byte | 32) >= ord("a")) & ((byte | 32) <= ord("z")) & (byte < 128)
    digit = (byte >= ord("0")) & (byte <= ord("9"))
    return ~(letter | digit | (byte >> 6 == 0b10))
