"""Speculative decoding: guess several tokens cheaply, check them all in one pass of the model.

The text has exactly the model's distribution, whatever the guesses are; good guesses only make it faster.
"""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.inference import sampling
from numpy_ref.inference.cached import cached_transformer
from numpy_ref.model.kv_cache import init_cache, rewind
from numpy_ref.rng import STREAM_SAMPLE, uniform


def ngram_proposal(tokens, ahead, longest=3):
    """A guess without a model (arXiv:2304.04487): what followed the last time when the text ended like this.

    Looks for the latest earlier place of the last ``longest`` tokens, then of fewer; returns the at most ``ahead`` ids
    that followed there, [] if even the last token is new. tokens: list of ids.
    """
    for size in range(min(longest, len(tokens) - 1), 0, -1):
        for start in range(len(tokens) - size - 1, -1, -1):
            if tokens[start : start + size] == tokens[-size:]:
                return tokens[start + size : start + size + ahead]
    return []


def accept(target, draft, tokens, uniforms):
    """How many guessed tokens stay, and the token after them (arXiv:2211.17192, algorithm 1).

        keep x_i with probability min(1, p_i(x_i) / q_i(x_i));   after the first refusal draw from max(p_i - q_i, 0);
        if all are kept, draw from p_k

    Why that is the model's distribution: x comes out kept with probability min(p, q), and from the rest with
    probability sum max(p - q, 0) times max(p - q, 0) / sum max(p - q, 0); min(p, q) + max(p - q, 0) = p.

    target p: (k + 1, V) in float64, the model's distribution at each place; draft q: (k, V), from which each guess was
    drawn; tokens: (k,) the guesses; uniforms: (k + 1,) in [0, 1), the last for the draw.
    Returns (number kept, next token).
    """
    for i, token in enumerate(tokens):
        if not uniforms[i] * draft[i, token] < target[i, token]:
            rest = np.maximum(target[i] - draft[i], 0.0)
            return i, int(sampling.sample(rest, uniforms[-1]))
    return len(tokens), int(sampling.sample(target[len(tokens)], uniforms[-1]))


def speculative_generate(
    params, config, prompt, sample, draft=None, ahead=4, longest=3, stop=(), on_token=None, counts=None
):
    """Continue one prompt by rounds of guessing and checking; the distribution of the text is that of ``generate``.

    draft: (params, config) of a smaller model that guesses, or None for ``ngram_proposal``. ahead: guesses a round.
    counts: a dict that receives "steps" (passes of the model), "proposed" and "accepted" guesses. Others as for
    ``generate``. Round j takes its uniforms from position j (2 ahead + 1) of the stream: ahead + 1 to accept, then those
    with which the draft model draws. Returns the new tokens (m,) int64.
    Raises UserError for a draft model with another vocabulary, and for ``ahead`` below 1.
    """
    _check(config, draft, ahead, prompt)
    guesses = _Model(*draft, sample, ahead) if draft else None
    window = [int(token) for token in prompt]
    window = window if config.endless else window[-config.context :]
    capacity = len(window) + sample.tokens + ahead if config.endless else config.context
    model, new, step = _Model(params, config, sample, ahead, capacity), [], 0
    counts = {} if counts is None else counts
    counts.update(steps=0, proposed=0, accepted=0)
    while len(new) < sample.tokens:
        if len(window) > config.context and not config.endless:
            window = window[-max(1, config.context // 2) :]
        room = ahead if config.endless else config.context - len(window)
        most = min(ahead, room, sample.tokens - len(new) - 1)
        draws = uniform(sample.seed, STREAM_SAMPLE, (2 * ahead + 1,), offset=step * (2 * ahead + 1))
        tokens, q = _guess(guesses, window, most, longest, draws[ahead + 1 :], config.vocab_size)
        p = model.distributions(window + tokens, len(tokens) + 1)
        kept, following = accept(p, q, tokens, draws[: len(tokens) + 1])
        step += 1
        counts["steps"] += 1
        counts["proposed"] += len(tokens)
        counts["accepted"] += kept
        for token in [*tokens[:kept], following]:
            if token in stop:
                return np.array(new, np.int64)
            new.append(token)
            window.append(token)
            if on_token is not None:
                on_token(0, token)
    return np.array(new, np.int64)


class _Model:
    """A model and its cache, which follows the text wherever it goes: forward, or back to where it was still the same."""

    def __init__(self, params, config, sample, ahead, capacity=None):
        self.params, self.config, self.sample, self.slack = params, config, sample, ahead + 1
        self.capacity, self.tokens, self.cache = capacity, None, None

    def distributions(self, text, count):
        """The distributions (count, V) of the tokens after the last ``count`` prefixes of the text, whole text included."""
        same = 0 if self.cache is None else _common(self.tokens, text[: len(text) - count])
        if self.cache is None or len(self.tokens) - same > self.slack:
            dtype = self.params["token_embedding.weight"].dtype
            self.cache, same = init_cache(self.config, 1, self.capacity or self.config.context, dtype, self.slack), 0
        self.cache = rewind(self.cache, np.array([same]))
        logits, self.cache = cached_transformer(np.array([text[same:]]), self.params, self.config, self.cache)
        self.tokens = list(text)
        return distribution(logits[0, -count:], self.sample)

    def guess(self, window, most, draws):
        """``most`` tokens drawn one after another, and their distributions (most, V)."""
        if not self.config.endless:
            window = window[-max(1, self.config.context - most) :]
        tokens, q = [], []
        for i in range(most):
            q.append(self.distributions(window + tokens, 1)[0])
            tokens.append(int(sampling.sample(q[-1], draws[i])))
        return tokens, np.array(q)


def distribution(logits, sample):
    """What the sampling options make of logits (n, V): probabilities (n, V); greedily, all on the likeliest token."""
    if sample.greedy:
        return (np.arange(logits.shape[-1]) == sampling.greedy(logits)[:, None]).astype(np.float64)
    return sampling.probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p)


def _guess(guesses, window, most, longest, draws, vocabulary):
    """(guessed tokens, the distributions (k, V) from which they were drawn); a looked-up guess is certain of itself."""
    if most > 0 and guesses is not None:
        return guesses.guess(window, min(most, guesses.config.context - 1), draws)
    tokens = ngram_proposal(window, most, longest) if most > 0 else []
    return tokens, (np.arange(vocabulary) == np.array(tokens, np.int64)[:, None]).astype(np.float64)


def _common(one, other):
    """How many tokens two texts begin with together."""
    n = min(len(one), len(other))
    return next((i for i in range(n) if one[i] != other[i]), n)


def _check(config, draft, ahead, prompt):
    if ahead < 1:
        raise UserError(f"ahead={ahead} guesses a round are not allowed; it must be a whole number of at least 1")
    if len(prompt) == 0:
        raise UserError("the prompt is empty; give at least one token")
    if draft and draft[1].vocab_size != config.vocab_size:
        raise UserError(
            f"the draft model has a vocabulary of {draft[1].vocab_size}, the model one of {config.vocab_size}; "
            "a draft must be trained with the same tokenizer"
        )
