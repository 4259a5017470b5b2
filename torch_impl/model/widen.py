"""Rows for tokens that a model has not seen yet."""

import torch

from torch_impl.rng import STREAM_WIDEN, normal


def widen(weight, rows, seed, stream):
    """Append rows drawn from the normal distribution of the old ones, column by column, until there are ``rows``.

    Shapes: weight (V, d) -> (max(V, rows), d) in its format and on its device; moments and draws are float64.
    """
    more, wide = max(0, rows - len(weight)), weight.cpu().double()
    deviation, mean = torch.std_mean(wide, 0, correction=0)
    new = torch.addcmul(mean, deviation, normal(seed, stream, (more, weight.shape[1])))
    return torch.cat((weight, new.to(weight)))


def widen_vocabulary(params, vocab_size, seed):
    """The parameters with an embedding and, unless it is tied, an output head of ``vocab_size`` rows."""
    streams = {"token_embedding.weight": STREAM_WIDEN, "output.weight": STREAM_WIDEN + 1}
    return {
        name: widen(param, vocab_size, seed, streams[name]) if name in streams else param
        for name, param in params.items()
    }
