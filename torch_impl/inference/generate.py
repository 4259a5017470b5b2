"""Text, token after token: read the prompts once, then one new token a row at every step."""

import torch

from numpy_ref.errors import UserError
from torch_impl.inference.cached import cached_transformer
from torch_impl.inference.decode import make_decoder
from torch_impl.inference.sampling import greedy, probabilities
from torch_impl.inference.sampling import sample as draw
from torch_impl.model.kv_cache import init_cache, keep_rows
from torch_impl.rng import STREAM_SAMPLE, uniform

TORCH_EXTRA_ARGUMENTS = {"decoder"}


@torch.inference_mode()
def generate(params, config, prompts, sample, stop=(), on_token=None, chunk=512, decoder=None):
    """Continue each prompt with the cached model, on the device of ``params``.

    Shapes: prompts, a list of (n,) integers of any lengths -> list of (m,) int64: the new tokens alone, on the CPU.
    ``sample``: a SampleConfig for all rows, where row r takes its t-th draw from element t of stream r; or a list with
    one for each, where every row takes stream 0 of its own seed, as if it were generated alone.
    A row ends after its number of tokens, or before a token in ``stop``, and leaves the batch.
    ``on_token(row, token)`` is called for each new token. Prompts are read ``chunk`` tokens at a time.
    ``decoder``: a ``Decoder`` of these params, kept from text to text; None prepares one, which on a CPU rewrites the
    weights: a tenth of the time of a short text.

    Of a prompt longer than the context the last ``context`` tokens are read. A row that outgrows the context starts
    again with the last half of it in a new cache; models that are ``endless`` don't need to. UserError for an empty
    prompt, for ids outside the vocabulary, and for as many sampling options as there are no prompts.
    """
    rows = [_Row(prompt, number, config) for number, prompt in enumerate(prompts)]
    for row, (options, stream) in zip(rows, sample_of_each_row(sample, len(rows))):
        row.options = options
        row.draws = None if options.greedy else uniform(options.seed, stream, (options.tokens,))
    room = max((len(row.window) + row.options.tokens for row in rows), default=0)
    capacity = room if config.endless else min(room, config.context)
    decoder = decoder or (make_decoder(params, config, len(rows)) if rows else None)

    waiting, active, cache, logits = list(range(len(rows))), [], None, None
    while waiting or active:
        if waiting:
            read, after = _read([rows[r].window for r in waiting], params, config, capacity, chunk)
            cache, logits = (read, after) if not active else (_stacked(cache, read), torch.cat((logits, after)))
            active, waiting = active + waiting, []
        places, chosen = [], _choose(logits, [rows[r] for r in active])
        for place, (r, token) in enumerate(zip(active, chosen.tolist())):
            row = rows[r]
            if token in stop:
                continue
            row.new.append(token)
            row.window.append(token)
            if on_token:
                on_token(r, token)
            if len(row.new) == row.options.tokens:
                continue
            if len(row.window) > config.context and not config.endless:
                row.window = row.window[-max(1, config.context // 2) :]
                waiting.append(r)
            else:
                places.append(place)
        if len(places) < len(active):
            active, chosen, cache = [active[place] for place in places], chosen[places], keep_rows(cache, places)
        if active:
            lengths = {len(rows[r].window) for r in active}
            at = lengths.pop() - 1 if len(lengths) == 1 else None
            logits = decoder(chosen, cache, at)
    return [torch.tensor(row.new, dtype=torch.int64) for row in rows]


def sample_of_each_row(sample, rows):
    """[(SampleConfig, stream)] of the rows. UserError if a list has not one for each."""
    if not isinstance(sample, (list, tuple)):
        return [(sample, STREAM_SAMPLE + row) for row in range(rows)]
    if len(sample) != rows:
        raise UserError(f"there are {rows} prompts and {len(sample)} sampling options; give one for each, or one for all")
    return [(options, STREAM_SAMPLE) for options in sample]


class _Row:
    """One text: the tokens that the model reads from, and the new ones."""

    def __init__(self, prompt, number, config):
        prompt = _checked(prompt, number, config.vocab_size)
        self.window = (prompt if config.endless else prompt[-config.context :]).tolist()
        self.new = []


def _read(windows, params, config, capacity, chunk):
    """A cache that has read the windows, and the logits after their last tokens (rows, V)."""
    weight = params["token_embedding.weight"]
    device = weight.device
    # Attention over a cache is faster in float32 on CPUs, which convert 16-bit numbers before they multiply.
    kind = torch.promote_types(weight.dtype, torch.float32) if device.type == "cpu" else weight.dtype
    cache = init_cache(config, len(windows), capacity, kind, device=device)
    lengths = torch.tensor([len(window) for window in windows])
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(window) for window in windows], batch_first=True)
    tokens, logits = tokens.to(device), None
    for start in range(0, tokens.shape[1], chunk):
        counts = (lengths - start).clamp(0, chunk).to(device)
        some = None if bool((lengths - start >= chunk).all()) else counts
        after, cache = cached_transformer(tokens[:, start : start + chunk], params, config, cache, some, last=True)
        logits = after if logits is None else torch.where(counts[:, None] > 0, after, logits)
    return cache, logits


def _stacked(one, other):
    """The rows of two caches with the same buffers in one."""
    layers = [{name: torch.cat((a[name], b[name])) for name in a} for a, b in zip(one["layers"], other["layers"])]
    return {"length": torch.cat((one["length"], other["length"])), "layers": layers}


def _choose(logits, rows):
    """The next token of each row. Shapes: logits (B, V) -> (B,) int64."""
    if all(row.options.greedy for row in rows):
        return greedy(logits.float() if logits.itemsize == 2 else logits)  # a CPU compares 16-bit numbers one by one
    chosen = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
    kinds = {}
    for place, row in enumerate(rows):
        o = row.options
        kinds.setdefault((o.greedy, o.temperature, o.top_k, o.top_p, o.min_p), []).append(place)
    for (is_greedy, *options), places in kinds.items():
        if is_greedy:
            chosen[places] = greedy(logits[places])
        else:
            masses = probabilities(logits[places], *options)
            draws = torch.stack([rows[place].draws[len(rows[place].new)] for place in places])
            chosen[places] = draw(masses, draws.to(masses.device)).to(logits.device)
    return chosen


def _checked(prompt, row, vocab_size):
    prompt = torch.as_tensor(prompt)
    if prompt.ndim != 1 or len(prompt) == 0 or prompt.is_floating_point():
        raise UserError(f"prompt {row} must be a non-empty list of token ids, got shape {tuple(prompt.shape)}")
    prompt = prompt.long()
    if prompt.min() < 0 or prompt.max() >= vocab_size:
        raise UserError(
            f"prompt {row} has token ids from {prompt.min()} to {prompt.max()}; the model knows 0 to {vocab_size - 1}"
        )
    return prompt.cpu()
