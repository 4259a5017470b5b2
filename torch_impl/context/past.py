"""Vectors of the past of every place."""

import math

import torch

from torch_impl.model.linear import linear
from torch_impl.model.softmax import softmax

TORCH_EXTRA_ARGUMENTS = {"last"}


def past_mean(x, span, last=None):
    """The mean of the ``span`` inputs before each place, fewer near the beginning, 0 at place 0.

    Differences of running sums would cancel; a banded matrix of weights is as fast at these lengths.
    Shapes: x (B, T, d) -> (B, T, d); with ``last`` of so many places at the end alone.
    """
    ago = _ago(x, last)
    visible = (ago >= 1) & (ago <= span)
    return (visible.to(x.dtype) @ x) / visible.sum(1, keepdim=True).clamp(min=1)


def past_attention(x, params, heads, last=None):
    """Attention of every input over those before it, as far as "distance.weight" reaches, which is added to the scores.

    Shapes: x (B, T, d); query.weight (d, d), key_value.weight (2d, d), output.weight (d, d), distance.weight (H, span)
    -> (B, T, d), 0 at place 0; with ``last`` of so many places at the end alone.
    """
    batch, length, width = x.shape
    ago, bias = _ago(x, last), params["distance.weight"]
    query = linear(x[:, length - len(ago) :], params["query.weight"]).view(batch, len(ago), heads, -1).transpose(1, 2)
    stacked = linear(x, params["key_value.weight"]).view(batch, length, 2 * heads, -1).transpose(1, 2)
    key, value = stacked.split(heads, 1)
    scores = (query * (1 / math.sqrt(width // heads))) @ key.mT + bias[:, (ago - 1).clamp(0, bias.shape[1] - 1)]
    hidden = (ago < 1) | (ago > bias.shape[1])
    attended = softmax(scores.masked_fill(hidden, -math.inf)) @ value
    return linear(attended.transpose(1, 2).flatten(2), params["output.weight"])


def _ago(x, last=None):
    """How many places back s lies from t: (T, T), or (last, T)."""
    place = torch.arange(x.shape[1], device=x.device)
    return place[-(last or len(place)) :, None] - place
