"""Groups of completions by the cached engine."""

import torch

from numpy_ref.errors import UserError
from torch_impl.inference.cached import cached_transformer
from torch_impl.inference.decode import make_decoder
from torch_impl.inference.sampling import greedy, probabilities
from torch_impl.inference.sampling import sample as draw
from torch_impl.model.kv_cache import init_cache, keep_rows
from torch_impl.rng import STREAM_ROLLOUT, uniform

_LEAVE = 0.75  # share of the rows that still write when the others leave the batch: copying a cache takes time


@torch.no_grad()
def rollout(params, config, prompts, sample, stop, group=1, number=0):
    """Completions of every prompt, ``group`` each, and how likely each token was when it was drawn: under temperature and
    filters, as the sampler had them.

    One prefill for all prompts, then their caches are repeated ``group`` times. Row r belongs to prompt r // group and
    draws its token t with element (r, t) of stream ``number``. A row is over at a token in ``stop``, which counts as its
    last one, or after ``sample.tokens``; rows that are over leave once they are a quarter of the batch.

    Shapes: prompts, a list of (n,) integers -> {"tokens": (B, T) padded with 0 behind, "mask": (B, T - 1) bool, the
    targets that were drawn, "logprobs": (B, T - 1), "kept": (B, T - 1, V) bool or None without filters, "lengths" and
    "starts": (B,) tokens of completion and prompt, "prompts": (B,) which prompt of the run, "ended": (B,) bool}, on the device of params. UserError for prompts
    that are empty or too long.
    """
    _check(prompts, sample, config)
    device = params["token_embedding.weight"].device
    filtered = bool(sample.top_k or sample.top_p < 1 or sample.min_p) and not sample.greedy
    rows = len(prompts) * group
    draws = uniform(sample.seed, STREAM_ROLLOUT + number, (rows, sample.tokens), device=device)
    prompts = [torch.as_tensor(prompt, dtype=torch.int64) for prompt in prompts]
    lengths = [len(prompt) for prompt in prompts for _ in range(group)]
    starts, length = torch.tensor(lengths, device=device), max(lengths) + sample.tokens
    alike = min(lengths) == max(lengths)
    read = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(device)
    logits, cache = _read(read, None if alike else starts[::group], params, config, length)
    each = torch.arange(len(prompts), device=device).repeat_interleave(group)
    logits, cache = logits[each], keep_rows(cache, each)

    tokens = torch.zeros(rows, length, dtype=torch.int64, device=device)
    tokens[:, : read.shape[1]] = read[each]
    logprobs = torch.zeros(rows, length, dtype=logits.dtype, device=device)
    kept = torch.ones(rows, length, config.vocab_size, dtype=torch.bool, device=device) if filtered else None
    active, over = torch.arange(rows, device=device), torch.zeros(rows, dtype=torch.bool, device=device)
    counts = torch.zeros_like(starts)
    stops = torch.tensor(list(stop), device=device)
    decoder = make_decoder(params, config, rows)
    for t in range(sample.tokens):
        chosen, chances, left = _choose(logits, sample, draws[active, t])
        writes = ~over[active]  # rows that are over, and have not left yet, go on for nothing
        place = starts[active] + t
        tokens[active, place] = torch.where(writes, chosen, 0)
        logprobs[active, place] = torch.where(writes, chances, 0).to(logprobs.dtype)
        if filtered:
            kept[active, place] = left | ~writes[:, None]
        counts[active] += writes
        over[active] |= torch.isin(chosen, stops)
        going = (~over[active]).nonzero()[:, 0]
        if not len(going) or t + 1 == sample.tokens:
            break
        if len(going) <= _LEAVE * len(active):
            active, chosen, cache = active[going], chosen[going], keep_rows(cache, going)
        logits = decoder(chosen, cache, lengths[0] + t if alike else None)
    longest = int((starts + counts).max())
    drawn = torch.arange(1, longest, device=device) - starts[:, None]
    found = {"tokens": tokens[:, :longest], "mask": (drawn >= 0) & (drawn < counts[:, None])}
    found |= {"logprobs": logprobs[:, 1:longest], "kept": kept[:, 1:longest] if filtered else None}
    return found | {"lengths": counts, "starts": starts, "prompts": number * len(prompts) + each, "ended": over}


def _check(prompts, sample, config):
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"prompt {number} has no tokens; every prompt needs at least one")
        if len(prompt) + sample.tokens > config.context and not config.endless:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens, which with {sample.tokens} new ones do not fit the context of "
                f"{config.context}; shorten the prompts or ask for fewer tokens"
            )


def _read(tokens, counts, params, config, capacity):
    """(logits after the prompts (P, V), their cache). counts (P,): lengths, None where all are the same."""
    weight = params["token_embedding.weight"]
    kind = torch.promote_types(weight.dtype, torch.float32) if weight.device.type == "cpu" else weight.dtype
    cache = init_cache(config, len(tokens), capacity, kind, device=weight.device)
    return cached_transformer(tokens, params, config, cache, counts, last=True)


def _choose(logits, sample, draws):
    """Tokens (n,), their log-probabilities (n,) in float64, and what the filters left (n, V)."""
    if sample.greedy:
        return greedy(logits), torch.zeros(len(logits), dtype=torch.float64, device=logits.device), logits == logits
    masses = probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p)
    chosen = draw(masses, draws.to(masses.device)).to(logits.device)
    return chosen, masses.gather(-1, chosen.to(masses.device)[:, None])[:, 0].log().to(logits.device), masses > 0
