"""How often the answer is right, and what can be read in the units before it."""

import numpy as np

from numpy_ref.rng import STREAM_THOUGHTS, normal, uniform
from numpy_ref.thoughts.decoding import CHOSEN, beam_search, best_of_n
from numpy_ref.thoughts.model import unit_transformer
from numpy_ref.thoughts.settings import stage_of
from numpy_ref.thoughts.task import pointer_chains, unit_rows
from numpy_ref.training.losses import cross_entropy


def held_out(params, config, settings, problems=1000, batch=250):
    """Measures on problems that no training run sees, the same for all models.

    Returns {"loss": nats per word at the last stage of the curriculum; "accuracy": share of right answers by greedy
    decoding; "read": share of the steps of the walk that the output head reads at the last place of their unit, None
    without units}.
    """
    loss, right, read = 0.0, 0, 0
    stage = stage_of(1, 1, settings)
    for first in range(0, problems, batch):
        count = min(batch, problems - first)
        edges, walk = pointer_chains(0, first, count, settings.nodes, settings.hops, STREAM_THOUGHTS + 1)
        tokens, targets, places = unit_rows(edges, walk, stage, settings)
        logits, _ = unit_transformer(tokens, params, config, settings, places)
        loss += float(cross_entropy(logits[..., : -settings.codes], targets)[0]) * count
        found = beam_search(tokens[:, : settings.question], params, config, settings)
        right += int(np.sum(found["answer"] == walk[:, -1]))
        words = found["words"][:, settings.length - 1 :: settings.length]
        read += int(np.sum(words == walk[:, 1 : 1 + settings.units]))
    share = read / (problems * settings.units) if settings.units else None
    return {"loss": loss / problems, "accuracy": right / problems, "read": share}


def searched(params, config, settings, problems=250, beam=4, chains=8, noise=0.5):
    """Share of right answers by three ways to choose units, on held-out problems: {"greedy", "beam", "best of n"}.

    The beam weighs a chain by its log probability and the value of its answer alike; the best of n by the value. None where
    units of the kind leave no choice.
    """
    edges, walk = pointer_chains(0, 0, problems, settings.nodes, settings.hops, STREAM_THOUGHTS + 1)
    question, places = np.concatenate([edges, walk[:, :1]], axis=1), settings.units * settings.length

    def right(found):
        return float(np.mean(found["answer"] == walk[:, -1]))

    shares = {"greedy": right(beam_search(question, params, config, settings)), "beam": None, "best of n": None}
    if settings.kind in CHOSEN:
        width = min(beam, settings.codes if settings.kind == "code" else settings.nodes)
        shares["beam"] = right(beam_search(question, params, config, settings, width, 1.0))
    if settings.kind in (*CHOSEN, "thought"):
        shape = (chains, problems, places)
        draws = uniform(0, STREAM_THOUGHTS + 2, shape)
        if settings.kind == "thought":
            draws = normal(0, STREAM_THOUGHTS + 2, (*shape, config.width), params["token_embedding.weight"].dtype)
        shares["best of n"] = right(best_of_n(question, params, config, settings, draws, 1.0, noise))
    return shares
