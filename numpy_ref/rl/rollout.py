"""Completions to learn from, with the log-probability that each token had when it was drawn."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.inference import sampling
from numpy_ref.inference.cached import cached_transformer
from numpy_ref.model.kv_cache import init_cache, keep_rows
from numpy_ref.rng import STREAM_ROLLOUT, uniform


def rollout(params, config, prompts, sample, stop, group=1, number=0):
    """``group`` completions of every prompt.

    A prompt is read once, and its cache copied for each of its completions. Row r answers prompt r // group; its token
    t is drawn with the uniform number at position r * sample.tokens + t of stream ``number``. A completion ends with a
    token in ``stop``, which belongs to it and is learnt like any other, or is cut off after ``sample.tokens``; a row
    that has ended leaves the batch.

    The log-probabilities are those of the distribution that was drawn from: after temperature, top-k, top-p and min-p.
    Where a filter is on, ``kept`` says what it left, so that later policies can be scored over the same tokens.
    sample.greedy: the likeliest tokens, at log-probability 0.

    prompts: list of (n,) arrays of token ids; sample: SampleConfig; stop: ids; number: of this rollout in its run.
    -> {"tokens" (B, T) prompt and completion, padded with 0 on the right, "mask" bool (B, T - 1) of tokens[:, 1:] that
    were drawn, "logprobs" (B, T - 1) 0 elsewhere, "kept" bool (B, T - 1, V) or None, "lengths" (B,) tokens of each
    completion, its end included, "starts" (B,) tokens of each prompt, "prompts" (B,) which prompt of the run it was, "ended"
    bool (B,)}.
    Raises UserError for an empty prompt, and for one that leaves no room in the context.
    """
    starts = _checked(prompts, sample, config)
    filtered = bool(sample.top_k or sample.top_p < 1 or sample.min_p) and not sample.greedy
    rows = len(prompts) * group
    draws = uniform(sample.seed, STREAM_ROLLOUT + number, (rows, sample.tokens))
    logits, cache = _read(params, config, prompts, starts, int(starts.max()) + sample.tokens)
    each = np.repeat(np.arange(len(prompts)), group)
    logits, cache, starts = logits[each], keep_rows(cache, each.tolist()), starts[each]

    length = int(starts.max()) + sample.tokens
    tokens, mask = np.zeros((rows, length), np.int64), np.zeros((rows, length - 1), bool)
    logprobs = np.zeros((rows, length - 1), logits.dtype)
    kept = np.ones((rows, length - 1, config.vocab_size), bool) if filtered else None
    for row, place in enumerate(each):
        tokens[row, : starts[row]] = prompts[place]
    active, ended = np.arange(rows), np.zeros(rows, bool)
    for t in range(sample.tokens):
        place = starts[active] + t
        chosen, chances, left = _choose(logits, sample, draws[active, t])
        tokens[active, place], mask[active, place - 1], logprobs[active, place - 1] = chosen, True, chances
        if filtered:
            kept[active, place - 1] = left
        stops = np.isin(chosen, stop)
        ended[active[stops]] = True
        going = np.nonzero(~stops)[0]
        active, cache = active[going], keep_rows(cache, going.tolist())
        if not len(active) or t + 1 == sample.tokens:
            break
        logits, cache = cached_transformer(chosen[going][:, None], params, config, cache, last=True)
    lengths = np.sum(mask, axis=1)
    longest = int(np.max(starts + lengths))
    found = {"tokens": tokens[:, :longest], "mask": mask[:, : longest - 1], "logprobs": logprobs[:, : longest - 1]}
    found["kept"] = kept[:, : longest - 1] if filtered else None
    return found | {"lengths": lengths, "starts": starts, "prompts": number * len(prompts) + each, "ended": ended}


def _checked(prompts, sample, config):
    """The prompts' lengths."""
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"prompt {number} is empty; give at least one token to go on from")
        if len(prompt) + sample.tokens > config.context and not config.endless:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens, and {sample.tokens} more are to come; the model's context is "
                f"{config.context}: give shorter prompts, or take fewer tokens"
            )
    return np.array([len(prompt) for prompt in prompts])


def _read(params, config, prompts, starts, capacity):
    """(logits after each prompt (P, V), cache): all of them read at once."""
    tokens = np.zeros((len(prompts), int(starts.max())), np.int64)
    for row, prompt in zip(tokens, prompts):
        row[: len(prompt)] = prompt
    cache = init_cache(config, len(prompts), capacity, params["token_embedding.weight"].dtype)
    return cached_transformer(tokens, params, config, cache, starts, last=True)


def _choose(logits, sample, draws):
    """Next tokens (n,), their log-probabilities (n,), and which tokens could have come (n, V)."""
    if sample.greedy:
        return sampling.greedy(logits), np.zeros(len(logits), logits.dtype), None
    p = sampling.probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p)
    chosen = sampling.sample(p, draws)
    return chosen, np.log(p[np.arange(len(p)), chosen]), p > 0
