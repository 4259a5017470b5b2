"""Measures of a model with units of thought on held-out problems."""

import torch

from numpy_ref.thoughts.settings import stage_of
from torch_impl.rng import STREAM_THOUGHTS, normal, uniform
from torch_impl.thoughts.decoding import CHOSEN, beam_search, best_of_n
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
        loss += float(cross_entropy(logits[..., : -settings.codes], targets)) * count
        found = beam_search(tokens[:, : settings.question], params, config, settings)
        right += int((found["answer"] == walk[:, -1]).sum())
        words = found["words"][:, settings.length - 1 :: settings.length]
        read += int((words == walk[:, 1 : 1 + settings.units]).sum())
    share = read / (problems * settings.units) if settings.units else None
    return {"loss": loss / problems, "accuracy": right / problems, "read": share}


@torch.no_grad()
def searched(params, config, settings, problems=250, beam=4, chains=8, noise=0.5):
    """Accuracy of greedy decoding, of a beam under log probability and value, and of the best of n drawn chains under the
    value: {"greedy", "beam", "best of n"}, None where there is no choice."""
    table = params["token_embedding.weight"]
    edges, walk = pointer_chains(0, 0, problems, settings.nodes, settings.hops, STREAM_THOUGHTS + 1, table.device)
    question, shape = torch.cat((edges, walk[:, :1]), 1), (chains, problems, settings.units * settings.length)

    def right(found):
        return float((found["answer"] == walk[:, -1]).double().mean())

    shares = {"greedy": right(beam_search(question, params, config, settings)), "beam": None, "best of n": None}
    if settings.kind in CHOSEN:
        width = min(beam, settings.codes if settings.kind == "code" else settings.nodes)
        shares["beam"] = right(beam_search(question, params, config, settings, width, 1.0))
        draws = uniform(0, STREAM_THOUGHTS + 2, shape, device=table.device)
    elif settings.kind == "thought":
        draws = normal(0, STREAM_THOUGHTS + 2, (*shape, config.width), table.dtype, device=table.device)
    if settings.kind in (*CHOSEN, "thought"):
        shares["best of n"] = right(best_of_n(question, params, config, settings, draws, 1.0, noise))
    return shares
