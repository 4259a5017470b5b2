"""Quantised thoughts: the nearest of a few vectors (arXiv:1711.00937)."""

import torch

from torch_impl.concepts.residual_quantiser import fit_codebooks
from torch_impl.model.embedding import embedding
from torch_impl.thoughts.stream import hidden_states


def code_table(params, config, settings):
    """The codebook (codes, d): embeddings of the last ids, as the model reads them."""
    return config.embedding_scale * params["token_embedding.weight"][-settings.codes :]


def code_scores(hidden, table):
    """Larger for nearer codes: half of |h|² - |h - E|². Shapes: hidden (..., d), table (K, d) -> (..., K)."""
    return hidden @ table.mT - 0.5 * table.square().sum(-1)


def nearest_code(hidden, table):
    """The nearest row (..., d), through which all of the gradient goes on to ``hidden``, and to the row as well."""
    return table[_chosen(hidden, table)] + (hidden - hidden.detach())


def code_loss(hidden, table, commitment):
    """Mean square distance from states to their codes, whose gradient moves codes fully and states ``commitment`` times.

    Shapes: hidden (..., d), table (K, d) -> ().
    """
    chosen = table[_chosen(hidden, table)]
    return (hidden.detach() - chosen).square().mean() + commitment * (hidden - chosen.detach()).square().mean()


@torch.no_grad()
def _chosen(hidden, table):
    return code_scores(hidden, table).argmax(-1)


@torch.no_grad()
def farthest_first(x, count):
    """The first vector, then always the one farthest from all before it. Shapes: x (n, d) -> numbers (count,)."""
    starts, apart = torch.zeros(count, dtype=torch.long, device=x.device), x.new_full((len(x),), torch.inf)
    for number in range(1, count):
        apart = torch.minimum(apart, (x - x[starts[number - 1]]).square().sum(-1))
        starts[number] = apart.argmax()
    return starts


@torch.no_grad()
def fit_codes(params, question, config, settings, count):
    """``params`` with a codebook by k-means of the first ``count`` continuous thoughts behind each question (B, Q)."""
    inputs, past, thoughts = embedding(question, params["token_embedding.weight"], config.embedding_scale), None, []
    for _ in range(count):
        h, past = hidden_states(inputs, params, config, past)
        inputs = h[:, -1:]
        thoughts.append(h[:, -1])
    thoughts = torch.cat(thoughts)
    weight = params["token_embedding.weight"].clone()
    weight[-settings.codes :] = fit_codebooks(thoughts, farthest_first(thoughts, settings.codes)[None])[0] / config.embedding_scale
    return {**params, "token_embedding.weight": weight}
