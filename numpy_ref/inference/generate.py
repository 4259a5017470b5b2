"""Text from a model: predict, choose, append, again."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.inference import sampling
from numpy_ref.model.transformer import transformer
from numpy_ref.rng import STREAM_SAMPLE, uniform


def generate(params, config, prompts, sample, stop=(), on_token=None):
    """Continue several prompts at once.

    Prompts of different lengths are filled up on the right: no token sees its future, so none sees the filling, and a
    row's next token is read where its last token stands. A row longer than the context goes on from its last
    ``context`` tokens. Row r draws its token number t from position t of its own stream, whatever the other rows do.
    A row ends after ``sample.tokens`` tokens or at a stop token, and leaves the batch.

    params, config: the model. prompts: list of (n,) arrays of token ids, n >= 1. sample: SampleConfig.
    stop: ids that end a row and are not returned. on_token(row, token) hears every new token.
    Returns a list of (m,) int64 arrays: the new tokens of each row. Raises UserError for an empty prompt.
    """
    rows = [_prompt(number, prompt) for number, prompt in enumerate(prompts)]
    lengths = [len(row) for row in rows]
    active = list(range(len(rows)))
    for step in range(sample.tokens):
        if not active:
            break
        logits = _next_logits(params, config, [rows[r][-config.context :] for r in active])
        chosen = zip(active, _choose(logits, sample, active, step).tolist())
        active = []
        for r, token in chosen:
            if token in stop:
                continue
            active.append(r)
            rows[r].append(token)
            if on_token is not None:
                on_token(r, token)
    return [np.array(row[length:], np.int64) for row, length in zip(rows, lengths)]


def _prompt(number, prompt):
    """A prompt as a list that can grow."""
    ids = np.asarray(prompt)
    if ids.ndim != 1 or not ids.size:
        raise UserError(f"prompt {number} has shape {ids.shape}; give at least one token, in one dimension")
    return ids.tolist()


def _next_logits(params, config, windows):
    """Logits (rows, V) of the token after each window (a list of ids, at most ``context`` of them)."""
    lengths = np.array([len(window) for window in windows])
    tokens = np.zeros((len(windows), lengths.max()), np.int64)
    for row, window in zip(tokens, windows):
        row[: len(window)] = window
    logits, _ = transformer(tokens, params, config)
    return logits[np.arange(len(windows)), lengths - 1]


def _choose(logits, sample, rows, step):
    """One token for each row (rows,)."""
    if sample.greedy:
        return sampling.greedy(logits)
    p = sampling.probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p)
    draws = np.concatenate([uniform(sample.seed, STREAM_SAMPLE + row, (1,), offset=step) for row in rows])
    return sampling.sample(p, draws)
