"""Measures of a model with units of thought on held-out problems."""

import torch

from numpy_ref.thoughts.settings import WIDTHS, last_stage
from torch_impl.rng import STREAM_THOUGHTS, normal, uniform
from torch_impl.thoughts.decoding import CHOSEN, beam_search, best_of_n
from torch_impl.thoughts.model import unit_transformer
from torch_impl.thoughts.task import arrives, pointer_chains, practice
from torch_impl.training.losses import cross_entropy


@torch.no_grad()
def held_out(params, config, settings, problems=1000, batch=250):
    """{"loss": nats per word, "accuracy": of greedy decoding, "read": share of the walk found in the units, or None}."""
    device, stage, stream = params["token_embedding.weight"].device, last_stage(settings), STREAM_THOUGHTS + 1
    loss, right, read, known = 0.0, 0, 0, settings.units > 0 and settings.ways == 1
    for first in range(0, problems, batch):
        count = min(batch, problems - first)
        tokens, targets, places = practice(0, first, count, stage, settings, stream, device)
        logits = unit_transformer(tokens, params, config, settings, places)
        loss += float(cross_entropy(logits[..., : -settings.codes], targets)) * count
        question = tokens[:, : settings.question]
        found = beam_search(question, params, config, settings)
        right += int(solved(question, found, settings).sum())
        if known:
            _, walk = pointer_chains(0, first, count, settings.nodes, settings.hops, stream, device)
            read += int((found["words"][:, settings.length - 1 :: settings.length] == walk[:, 1 : 1 + settings.units]).sum())
    return {"loss": loss / problems, "accuracy": right / problems, "read": read / (problems * settings.units) if known else None}


def solved(question, found, settings):
    """Where the search's answer is that of the graph, or its chain arrives: question (B, Q) -> (B,) of bool."""
    if settings.ways == 2:
        return arrives(question[:, :-2], torch.cat((question[:, -1:], found["units"], question[:, -2:-1]), 1))
    end = question[:, -1:]
    for _ in range(settings.hops):
        end = question.gather(1, end)
    return found["answer"] == end[:, 0]


@torch.no_grad()
def searched(params, config, settings, problems=250, beam=4, chains=8, noise=0.5):
    """Accuracy of greedy decoding, of a beam under log probability and value, and of the best of n drawn chains under the
    value: {"greedy", "beam", "best of n"}, None where there is no choice."""
    question, draws = _questions(params, config, settings, problems, chains)

    def right(found):
        return float(solved(question, found, settings).double().mean())

    shares = {"greedy": right(beam_search(question, params, config, settings)), "beam": None, "best of n": None}
    if settings.kind in CHOSEN:
        width = min(beam, settings.codes if settings.kind == "code" else settings.nodes)
        shares["beam"] = right(beam_search(question, params, config, settings, width, 1.0))
    if settings.kind in (*CHOSEN, "thought"):
        shares["best of n"] = right(best_of_n(question, params, config, settings, draws, 1.0, noise))
    return shares


@torch.no_grad()
def by_width(params, config, settings, problems=500):
    """Accuracy for each of WIDTHS, as far as there is so much to choose from: {"beam, likeliest", "beam, with value", "best
    of n"}."""
    widths = [width for width in WIDTHS if width <= (settings.codes if settings.kind == "code" else settings.nodes)]
    question, draws = _questions(params, config, settings, problems, widths[-1])

    def right(found):
        return float(solved(question, found, settings).double().mean())

    def beams(weight):
        return [right(beam_search(question, params, config, settings, width, weight)) for width in widths]

    drawn = [right(best_of_n(question, params, config, settings, draws[:width])) for width in widths]
    return {"beam, likeliest": beams(0.0), "beam, with value": beams(1.0), "best of n": drawn}


def _questions(params, config, settings, problems, chains):
    table, stream = params["token_embedding.weight"], STREAM_THOUGHTS + 1
    tokens, _, _ = practice(0, 0, problems, last_stage(settings), settings, stream, table.device)
    shape = (chains, problems, settings.units * settings.length)
    if settings.kind == "thought":
        draws = normal(0, stream + 1, (*shape, config.width), table.dtype, device=table.device)
    else:
        draws = uniform(0, stream + 1, shape, device=table.device)
    return tokens[:, : settings.question], draws
