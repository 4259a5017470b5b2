"""Search over units of thought, with the keys and values of everything before them kept."""

import torch

from numpy_ref.errors import UserError
from torch_impl.model.embedding import embedding
from torch_impl.model.softmax import log_softmax
from torch_impl.thoughts.codes import code_scores, code_table
from torch_impl.thoughts.stream import hidden_states, past_rows, word_logits

CHOSEN = ("span", "code")


@torch.no_grad()
def beam_search(question, params, config, settings, beam=1, weight=0.0):
    """The chain of units with the largest log probability, plus ``weight`` times the log probability of its answer, among
    those that a beam of this width meets; width 1 is greedy.

    Shapes: question (B, Q) -> {"units": (B, m) ids, -1 for thoughts and pauses, "words": (B, m), "answer": (B,), "score":
    (B,)}. UserError for a beam of no or of too many rows.
    """
    batch, choices = len(question), len(_choices(settings))
    if not 1 <= beam <= choices:
        raise UserError(f"beam={beam} does not fit units of kind {settings.kind}; give 1 to {choices}, as many as one can choose")
    hidden, past = _begin(question, params, config)
    scores, units, words = hidden.new_zeros((batch, 1)), [], []
    first = torch.arange(batch, device=question.device)[:, None]
    for place in range(settings.units * settings.length):
        words.append(verbalise(hidden, params, config, settings))
        ids = None
        if settings.kind in CHOSEN:
            width, branch = scores.shape[1], beam if place % settings.length == 0 else 1
            gains, ids = _logprobs(hidden, params, config, settings).topk(branch, -1)
            scores, best = (scores.reshape(-1, 1) + gains).view(batch, -1).topk(beam, -1)
            ids = ids.reshape(batch, -1).gather(1, best).flatten() + _choices(settings).start
            rows = (first * width + best // branch).flatten()
            hidden, past = hidden[rows], past_rows(past, rows)
            units, words = ([part[rows] for part in parts] for parts in (units, words))
        units.append(torch.full_like(words[-1], -1) if ids is None else ids)
        hidden, past = _advance(past, _vector(hidden, ids, params, config, settings), params, config)
    return _finish(hidden, scores, units, words, params, config, settings, weight)


@torch.no_grad()
def best_of_n(question, params, config, settings, draws, weight=1.0, noise=0.1):
    """Of n drawn chains the one whose answer is surest. All run as one batch.

    Shapes: question (B, Q); draws (n, B, places) uniform, for thoughts (n, B, places, d) normal, scaled by ``noise``
    -> as of ``beam_search``, with score = weight * log probability of the answer. UserError for pauses and no units.
    """
    if settings.kind not in (*CHOSEN, "thought"):
        raise UserError(f"units of kind {settings.kind} leave nothing to draw; take span, code or thought")
    count, batch = draws.shape[:2]
    draws = draws.transpose(0, 1).flatten(0, 1)
    hidden, past = _begin(question, params, config)
    rows = torch.arange(batch, device=question.device).repeat_interleave(count)
    hidden, past = hidden[rows], past_rows(past, rows)  # every question is read once
    units, words = [], []
    for place in range(settings.units * settings.length):
        words.append(verbalise(hidden, params, config, settings))
        ids = None
        if settings.kind in CHOSEN:
            below = _logprobs(hidden, params, config, settings).exp().cumsum(-1)
            target = draws[:, place, None].to(below.dtype) * below[:, -1:]
            index = torch.searchsorted(below, target, right=True)[:, 0]
            ids = index.clamp(max=below.shape[-1] - 1) + _choices(settings).start
        vector = _vector(hidden, ids, params, config, settings)
        if settings.kind == "thought":
            vector = vector + noise * draws[:, place].to(vector.dtype)
        units.append(torch.full_like(words[-1], -1) if ids is None else ids)
        hidden, past = _advance(past, vector, params, config)
    scores = hidden.new_zeros((batch, count))
    return _finish(hidden, scores, units, words, params, config, settings, weight)


def verbalise(hidden, params, config, settings):
    """The likeliest node by the output head, for hidden states (n, d) -> (n,)."""
    return word_logits(hidden, params, config)[:, : settings.nodes].argmax(-1)


def _choices(settings):
    if settings.kind == "code":
        return range(settings.vocab_size - settings.codes, settings.vocab_size)
    return range(settings.nodes if settings.kind == "span" else 1)


def _logprobs(hidden, params, config, settings):
    if settings.kind == "code":
        return log_softmax(code_scores(hidden, code_table(params, config, settings)))
    return log_softmax(word_logits(hidden, params, config)[:, : settings.nodes])


def _vector(hidden, ids, params, config, settings):
    if settings.kind == "thought":
        return hidden
    ids = hidden.new_full((len(hidden),), settings.nodes, dtype=torch.long) if ids is None else ids
    return embedding(ids, params["token_embedding.weight"], config.embedding_scale)


def _begin(question, params, config):
    x = embedding(question, params["token_embedding.weight"], config.embedding_scale)
    h, past = hidden_states(x, params, config)
    return h[:, -1], past


def _advance(past, vector, params, config):
    h, past = hidden_states(vector[:, None], params, config, past)
    return h[:, -1], past


def _finish(hidden, scores, units, words, params, config, settings, weight):
    """The answer of every row, and of each question the row with the best total."""
    batch, width = scores.shape
    logprobs = log_softmax(word_logits(hidden, params, config)[:, : settings.nodes])
    value, answers = logprobs.max(-1)
    if settings.wanted is not None:
        value = logprobs[:, settings.wanted]
    total, best = (scores + weight * value.view(batch, width)).max(1)
    rows = torch.arange(batch, device=best.device) * width + best

    def chosen(parts):
        return torch.stack([part[rows] for part in parts], 1) if parts else answers.new_zeros((batch, 0))

    return {"units": chosen(units), "words": chosen(words), "answer": answers[rows], "score": total}
