"""How often the answer is right, what can be read in the units before it, and what search over them gains."""

import numpy as np

from numpy_ref.rng import STREAM_THOUGHTS, normal, uniform
from numpy_ref.thoughts.decoding import CHOSEN, beam_search, best_of_n
from numpy_ref.thoughts.model import unit_transformer
from numpy_ref.thoughts.settings import WIDTHS, last_stage
from numpy_ref.thoughts.task import arrives, pointer_chains, practice
from numpy_ref.training.losses import cross_entropy


def held_out(params, config, settings, problems=1000, batch=250):
    """Measures on problems that no training run sees, the same for all models.

    Returns {"loss": nats per word at the last stage of the curriculum; "accuracy": share of right answers, or of chains that
    arrive, by greedy decoding; "read": share of the steps of the walk that the output head reads at the last place of their
    unit, None without units or with a goal, to which several ways may lead}.
    """
    loss, right, read = 0.0, 0, 0
    stage = last_stage(settings)
    for first in range(0, problems, batch):
        count = min(batch, problems - first)
        tokens, targets, places = practice(0, first, count, stage, settings, STREAM_THOUGHTS + 1)
        logits, _ = unit_transformer(tokens, params, config, settings, places)
        loss += float(cross_entropy(logits[..., : -settings.codes], targets)[0]) * count
        question = tokens[:, : settings.question]
        found = beam_search(question, params, config, settings)
        right += int(np.sum(solved(question, found, settings)))
        if settings.units and settings.ways == 1:
            _, walk = pointer_chains(0, first, count, settings.nodes, settings.hops, STREAM_THOUGHTS + 1)
            words = found["words"][:, settings.length - 1 :: settings.length]
            read += int(np.sum(words == walk[:, 1 : 1 + settings.units]))
    share = read / (problems * settings.units) if settings.units and settings.ways == 1 else None
    return {"loss": loss / problems, "accuracy": right / problems, "read": share}


def solved(question, found, settings):
    """Which questions a search has answered rightly, by the graph: (B, Q), what ``beam_search`` returns -> (B,) of bool."""
    if settings.ways == 2:
        goal, start = question[:, -2:-1], question[:, -1:]
        return arrives(question[:, :-2], np.concatenate([start, found["units"], goal], axis=1))
    end = question[:, -1:]
    for _ in range(settings.hops):
        end = np.take_along_axis(question, end, axis=1)
    return found["answer"] == end[:, 0]


def searched(params, config, settings, problems=250, beam=4, chains=8, noise=0.5):
    """Share of right answers by three ways to choose units, on held-out problems: {"greedy", "beam", "best of n"}.

    The beam weighs a chain by its log probability and the value of its answer alike; the best of n by the value. None where
    units of the kind leave no choice.
    """
    question, draws = _questions(config, settings, problems, chains, params["token_embedding.weight"].dtype)

    def right(found):
        return float(np.mean(solved(question, found, settings)))

    shares = {"greedy": right(beam_search(question, params, config, settings)), "beam": None, "best of n": None}
    if settings.kind in CHOSEN:
        width = min(beam, settings.codes if settings.kind == "code" else settings.nodes)
        shares["beam"] = right(beam_search(question, params, config, settings, width, 1.0))
    if settings.kind in (*CHOSEN, "thought"):
        shares["best of n"] = right(best_of_n(question, params, config, settings, draws, 1.0, noise))
    return shares


def by_width(params, config, settings, problems=500):
    """What more chains gain, for units that are chosen: share of right answers for each of WIDTHS, on held-out problems.

    Returns {"beam, likeliest": the chain with the largest log probability; "beam, with value": that of log probability and
    value; "best of n": of n drawn chains the one with the best value}, a list each. Widths beyond what there is to choose
    from are left out.
    """
    widths = [width for width in WIDTHS if width <= (settings.codes if settings.kind == "code" else settings.nodes)]
    question, draws = _questions(config, settings, problems, widths[-1], params["token_embedding.weight"].dtype)

    def beam(width, weight):
        return float(np.mean(solved(question, beam_search(question, params, config, settings, width, weight), settings)))

    def drawn(count):
        found = best_of_n(question, params, config, settings, draws[:count])
        return float(np.mean(solved(question, found, settings)))

    return {
        "beam, likeliest": [beam(width, 0.0) for width in widths],
        "beam, with value": [beam(width, 1.0) for width in widths],
        "best of n": [drawn(width) for width in widths],
    }


def _questions(config, settings, problems, chains, dtype):
    """Held-out questions (problems, Q), and what chains are drawn with."""
    stream, shape = STREAM_THOUGHTS + 1, (chains, problems, settings.units * settings.length)
    tokens, _, _ = practice(0, 0, problems, last_stage(settings), settings, stream)
    draws = normal(0, stream + 1, (*shape, config.width), dtype) if settings.kind == "thought" else uniform(0, stream + 1, shape)
    return tokens[:, : settings.question], draws
