"""Measures of a model with units of thought on held-out problems."""

import torch

from numpy_ref.thoughts.settings import stage_of
from torch_impl.rng import STREAM_THOUGHTS
from torch_impl.thoughts.decoding import beam_search
from torch_impl.thoughts.model import unit_transformer
from torch_impl.thoughts.task import pointer_chains, unit_rows
from torch_impl.training.losses import cross_entropy


@torch.no_grad()
def held_out(params, config, settings, problems=1000, batch=250):
    """{"loss": nats per word, "accuracy": of greedy answers, "read": share of the walk found in the units, or None}."""
    device, stage = params["token_embedding.weight"].device, stage_of(1, 1, settings)
    loss, right, read = 0.0, 0, 0
    for first in range(0, problems, batch):
        count = min(batch, problems - first)
        edges, walk = pointer_chains(0, first, count, settings.nodes, settings.hops, STREAM_THOUGHTS + 1, device)
        tokens, targets, places = unit_rows(edges, walk, stage, settings)
        logits = unit_transformer(tokens, params, config, settings, places)
        loss += float(cross_entropy(logits, targets)) * count
        found = beam_search(tokens[:, : settings.question], params, config, settings)
        right += int((found["answer"] == walk[:, -1]).sum())
        words = found["words"][:, settings.length - 1 :: settings.length]
        read += int((words == walk[:, 1 : 1 + settings.units]).sum())
    share = read / (problems * settings.units) if settings.units else None
    return {"loss": loss / problems, "accuracy": right / problems, "read": share}
