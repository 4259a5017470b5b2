"""Tokens and units of thought in one row."""

import torch

from numpy_ref.thoughts.settings import require_places
from torch_impl.model.embedding import embedding
from torch_impl.thoughts.stream import hidden_states, word_logits
from torch_impl.thoughts.units import next_unit


def unit_states(tokens, params, config, settings, places=()):
    """Last hidden states of rows in which the inputs at ``places`` are units (arXiv:2412.06769 §3).

    Every input goes through the model once: a pass reads the inputs from one place to the next and sees the keys and
    values of those before, through which the gradient flows as well.
    Shapes: tokens (B, T), places ascending from 1 -> (B, T, d). UserError for places that are none.
    """
    length = tokens.shape[1]
    require_places(places, length)
    x, past, states = embedding(tokens, params["token_embedding.weight"], config.embedding_scale), None, []
    for start, end in zip((0, *places), (*places, length)):
        inputs = x[:, start:end]
        if start:
            unit = next_unit(states[-1][:, -1], params, config, settings)
            inputs = torch.cat((unit[:, None], inputs[:, 1:]), 1)
        h, past = hidden_states(inputs, params, config, past)
        states.append(h)
    return torch.cat(states, 1)


def unit_transformer(tokens, params, config, settings, places=()):
    """Next-token logits of rows with units at ``places``. Shapes: tokens (B, T) -> (B, T, V)."""
    return word_logits(unit_states(tokens, params, config, settings, places), params, config)
