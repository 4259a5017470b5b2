"""Text from a model: read the prompt once, then predict, choose, append, again."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.inference import sampling
from numpy_ref.inference.cached import cached_transformer
from numpy_ref.model.kv_cache import init_cache, keep_rows
from numpy_ref.rng import STREAM_SAMPLE, uniform


def generate(params, config, prompts, sample, stop=(), on_token=None, chunk=512):
    """Continue several prompts at once.

    The prompts are read in chunks into a key-value cache; after that every step computes one new token a row. A row
    that ends, after its number of tokens or at a stop token, leaves the batch. No row sees another: its text is the one
    it would have alone.

    A row that outgrows the model's context starts afresh with the last half of it as its prompt, unless the model is
    ``endless``: one whose layers all have a window reads on for ever, in the memory of its rings.

    params, config: the model. prompts: list of (n,) arrays of token ids, n >= 1; of a prompt longer than the context
    the last ``context`` tokens count. sample: a SampleConfig, with which row r draws its token number t from position t
    of its own stream r; or a list of them, one a row, each with stream 0 of its own seed, as if the row were alone.
    stop: ids that end a row and are not returned. on_token(row, token) hears every new token. chunk: tokens of a prompt
    that are read at a time.
    Returns a list of (m,) int64 arrays: the new tokens of each row. Raises UserError for an empty prompt.
    """
    texts = [_Text(number, prompt, config) for number, prompt in enumerate(prompts)]
    samples = sample_of_each_row(sample, len(texts))
    capacity = max((len(text.window) + one.tokens for text, (one, _) in zip(texts, samples)), default=0)
    capacity = capacity if config.endless else min(capacity, config.context)
    active, cache, logits = [], None, None
    waiting = list(range(len(texts)))
    while active or waiting:
        if waiting:  # new rows, and rows that start afresh, are read in; the others wait
            windows = [texts[r].window for r in waiting]
            read = _read(params, config, windows, capacity, chunk)
            active, cache, logits = _joined(active, cache, logits, waiting, *read)
            waiting = []
        chosen = [_choose(row, samples[r], texts[r]) for row, r in zip(logits, active)]
        places = []  # of the rows that go on
        for place, (r, token) in enumerate(zip(active, chosen)):
            text = texts[r]
            if token in stop:
                continue
            text.append(token)
            if on_token is not None:
                on_token(r, token)
            if len(text.new) == samples[r][0].tokens:
                continue
            if text.outgrows(config):
                text.restart(config)
                waiting.append(r)
            else:
                places.append(place)
        active, cache = [active[place] for place in places], keep_rows(cache, places)
        if active:
            tokens = np.array([[texts[r].new[-1]] for r in active])
            logits, cache = cached_transformer(tokens, params, config, cache, last=True)
        else:
            logits = None
    return [np.array(text.new, np.int64) for text in texts]


def sample_of_each_row(sample, rows):
    """(SampleConfig, stream) of each row. Raises UserError for a list of another length."""
    if not isinstance(sample, (list, tuple)):
        return [(sample, STREAM_SAMPLE + row) for row in range(rows)]
    if len(sample) != rows:
        raise UserError(f"{len(sample)} sampling options were given for {rows} prompts; give one for each, or one for all")
    return [(one, STREAM_SAMPLE) for one in sample]


class _Text:
    """A row's tokens: those that the model now reads from, and the new ones."""

    def __init__(self, number, prompt, config):
        ids = np.asarray(prompt)
        if ids.ndim != 1 or not ids.size:
            raise UserError(f"prompt {number} has shape {ids.shape}; give at least one token, in one dimension")
        self.new = []
        self.window = ids.tolist() if config.endless else ids[-config.context :].tolist()

    def append(self, token):
        self.new.append(token)
        self.window.append(token)

    def outgrows(self, config):
        return len(self.window) > config.context and not config.endless

    def restart(self, config):
        self.window = self.window[-max(1, config.context // 2) :]


def _read(params, config, windows, capacity, chunk):
    """(cache, logits after the last token of each window): the prompts, a chunk of all of them at a time."""
    lengths = np.array([len(window) for window in windows])
    dtype = params["token_embedding.weight"].dtype
    cache = init_cache(config, len(windows), capacity, dtype)
    logits = np.zeros((len(windows), config.vocab_size), dtype)
    for start in range(0, lengths.max(), chunk):
        counts = np.clip(lengths - start, 0, chunk)
        tokens = np.zeros((len(windows), counts.max()), np.int64)
        for row, window, count in zip(tokens, windows, counts):
            row[:count] = window[start : start + count]
        after, cache = cached_transformer(tokens, params, config, cache, counts, last=True)
        logits[counts > 0] = after[counts > 0]
    return cache, logits


def _joined(active, cache, logits, new_rows, new_cache, new_logits):
    """One batch of two: rows that are being decoded and rows that have just been read."""
    if not active:
        return list(new_rows), new_cache, new_logits

    def stacked(name, layer):
        return np.concatenate((cache["layers"][layer][name], new_cache["layers"][layer][name]))

    layers = [{name: stacked(name, n) for name in layer} for n, layer in enumerate(cache["layers"])]
    length = np.concatenate((cache["length"], new_cache["length"]))
    return active + list(new_rows), {"length": length, "layers": layers}, np.concatenate((logits, new_logits))


def _choose(logits, sampled, text):
    """The next token of one row: logits (V,)."""
    sample, stream = sampled
    if sample.greedy:
        return int(sampling.greedy(logits))
    p = sampling.probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p)
    return int(sampling.sample(p, uniform(sample.seed, stream, (), offset=len(text.new))))
