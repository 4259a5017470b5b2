"""Decoding by units: a search over what to think, and only then words.

    choose units t_1 ... t_m with the largest    sum of log p(t_i | question, t_<i)  +  weight * value(question, t)

The value is how sure the model then is of its answer, max log p(answer); where a chain has to arrive at a goal, it is log
p(ARRIVED). Thoughts that are hidden states are not drawn from
a distribution: there is one for each past, with log p = 0, and search needs noise to have a choice.
"""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.embedding import embedding
from numpy_ref.model.softmax import log_softmax
from numpy_ref.thoughts.codes import code_scores, code_table
from numpy_ref.thoughts.stream import hidden_states, past_rows, word_logits

CHOSEN = ("span", "code")  # units that are ids


def beam_search(question, params, config, settings, beam=1, weight=0.0):
    """The best units that a beam finds, put into words; a beam of 1 is greedy decoding.

    Every unit of a row on the beam has the ``beam`` likeliest continuations, and the ``beam`` best of all rows stay.
    Where a unit takes several places, the later ones go on greedily.

    Shapes: question (B, Q) of whole numbers -> {"units" (B, m) ids, -1 where units have none; "words" (B, m) what
    ``verbalise`` reads in each; "answer" (B,); "score" (B,), the sum above}. No vjp.
    Raises UserError for a beam wider than what there is to choose from.
    """
    batch, choices = len(question), len(_choices(settings))
    if not 1 <= beam <= choices:
        raise UserError(f"beam={beam} does not fit units of kind {settings.kind}; give 1 to {choices}, as many as one can choose")
    hidden, past = _begin(question, params, config)
    scores, units, words = np.zeros((batch, 1)), [], []
    for place in range(settings.units * settings.length):
        read, rows, ids = verbalise(hidden, params, config, settings), np.arange(len(hidden)), None
        if settings.kind in CHOSEN:
            width, branch = scores.shape[1], beam if place % settings.length == 0 else 1
            logprobs = _logprobs(hidden, params, config, settings)
            ids = np.argsort(-logprobs, axis=-1, kind="stable")[:, :branch]
            found = (scores.reshape(-1, 1) + np.take_along_axis(logprobs, ids, axis=-1)).reshape(batch, -1)
            best = np.argsort(-found, axis=-1, kind="stable")[:, :beam]
            scores = np.take_along_axis(found, best, axis=-1)
            rows = (np.arange(batch)[:, None] * width + best // branch).reshape(-1)
            ids = np.take_along_axis(ids.reshape(batch, -1), best, axis=-1).reshape(-1) + _choices(settings).start
        units, words = [[part[rows] for part in parts] for parts in (units, [*words, read])]
        units.append(np.full(len(rows), -1) if ids is None else ids)
        hidden, past = _advance(past_rows(past, rows), _vector(hidden[rows], ids, params, config, settings), params, config)
    return _finish(hidden, scores, units, words, params, config, settings, weight)


def best_of_n(question, params, config, settings, draws, weight=1.0, noise=0.1):
    """The best of n chains of units that are drawn, not searched.

    draws: for span and code uniforms (n, B, places), each of which picks a unit by the model's probabilities; for thoughts
    normal numbers (n, B, places, d), which times ``noise`` are added to the hidden states.

    Returns what ``beam_search`` does. The log probabilities of drawn units are not counted again: score = weight * value.
    """
    if settings.kind not in (*CHOSEN, "thought"):
        raise UserError(f"units of kind {settings.kind} leave nothing to draw; take span, code or thought")
    count, batch = draws.shape[:2]
    draws = np.swapaxes(draws, 0, 1).reshape(count * batch, *draws.shape[2:])  # the chains of a question side by side
    hidden, past = _begin(np.repeat(question, count, axis=0), params, config)
    units, words = [], []
    for place in range(settings.units * settings.length):
        words.append(verbalise(hidden, params, config, settings))
        ids = None
        if settings.kind in CHOSEN:
            below = np.cumsum(np.exp(_logprobs(hidden, params, config, settings)), axis=-1)
            index = np.sum(below <= draws[:, place, None] * below[:, -1:], axis=-1)
            ids = np.minimum(index, below.shape[-1] - 1) + _choices(settings).start
        vector = _vector(hidden, ids, params, config, settings)
        if settings.kind == "thought":
            vector = vector + noise * draws[:, place]
        units.append(np.full(len(draws), -1) if ids is None else ids)
        hidden, past = _advance(past, vector, params, config)
    return _finish(hidden, np.zeros((batch, count)), units, words, params, config, settings, weight)


def verbalise(hidden, params, config, settings):
    """The word that the output head reads in the hidden state which a unit is made of.

    For spans and codes it says what the model would have said; for continuous thoughts it is a look inside (the logit
    lens), as the thought itself may hold several words at once.  Shapes: hidden (n, d) -> (n,) of nodes.
    """
    return np.argmax(word_logits(hidden, params, config)[0][:, : settings.nodes], axis=-1)


def _choices(settings):
    """The ids that units are chosen from."""
    if settings.kind == "code":
        return range(settings.vocab_size - settings.codes, settings.vocab_size)
    return range(settings.nodes if settings.kind == "span" else 1)


def _logprobs(hidden, params, config, settings):
    """Log probabilities of all that a unit may be: (n, d) -> (n, choices)."""
    if settings.kind == "code":
        scores = code_scores(hidden, code_table(params, config, settings)[0])
    else:
        scores = word_logits(hidden, params, config)[0][:, : settings.nodes]
    return log_softmax(scores)[0]


def _vector(hidden, ids, params, config, settings):
    """What the model is given at the place of a unit: (n, d)."""
    if settings.kind == "thought":
        return hidden
    ids = np.full(len(hidden), settings.nodes) if ids is None else ids
    return embedding(ids[:, None], params["token_embedding.weight"], config.embedding_scale)[0][:, 0]


def _begin(question, params, config):
    """(last hidden state (B, d), past) of the question."""
    x, _ = embedding(question, params["token_embedding.weight"], config.embedding_scale)
    (h, past), _ = hidden_states(x, params, config)
    return h[:, -1], past


def _advance(past, vector, params, config):
    """The same after one more input (B, d)."""
    (h, past), _ = hidden_states(vector[:, None], params, config, past)
    return h[:, -1], past


def _finish(hidden, scores, units, words, params, config, settings, weight):
    """Answer all rows (B * width), and keep the best row of each question."""
    batch, width = scores.shape
    logprobs = log_softmax(word_logits(hidden, params, config)[0][:, : settings.nodes])[0]
    answers = np.argmax(logprobs, axis=-1)
    value = np.max(logprobs, axis=-1) if settings.wanted is None else logprobs[:, settings.wanted]
    total = scores + weight * value.reshape(batch, width)
    best = np.argmax(total, axis=1)
    rows = np.arange(batch) * width + best

    def chosen(parts):
        return np.stack([part[rows] for part in parts], axis=1) if parts else np.zeros((batch, 0), np.int64)

    score = total[np.arange(batch), best]
    return {"units": chosen(units), "words": chosen(words), "answer": answers[rows], "score": score}
