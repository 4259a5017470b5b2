"""Text, token after token."""

import torch

from numpy_ref.errors import UserError
from torch_impl.inference.sampling import greedy, probabilities
from torch_impl.inference.sampling import sample as draw
from torch_impl.model.transformer import transformer
from torch_impl.rng import STREAM_SAMPLE, uniform


@torch.inference_mode()
def generate(params, config, prompts, sample, stop=(), on_token=None):
    """Continue each prompt by up to ``sample.tokens`` tokens (a SampleConfig), on the device of ``params``.

    Shapes: prompts, a list of (n,) integers of any lengths -> list of (m,) int64: the new tokens alone, on the CPU.
    A row ends before a token in ``stop``, and leaves the batch. ``on_token(row, token)`` is called for each new token.
    Row r takes its t-th draw from element t of its own stream, whatever else is in the batch.

    Rows are padded on the right, where causal attention never looks. A row that outgrows the context slides: the model
    sees its last ``context`` tokens. UserError for an empty prompt and for ids outside the vocabulary.
    """
    device = params["token_embedding.weight"].device
    rows = [_checked(prompt, row, config.vocab_size) for row, prompt in enumerate(prompts)]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    room = (lengths.max().item() if rows else 0) + sample.tokens
    tokens = torch.zeros(len(rows), room, dtype=torch.int64, device=device)
    for row, prompt in enumerate(rows):
        tokens[row, : len(prompt)] = prompt.to(device)
    draws = [uniform(sample.seed, STREAM_SAMPLE + row, (sample.tokens,)) for row in range(len(rows))]
    new, active = [[] for _ in rows], list(range(len(rows)))

    for step in range(sample.tokens):
        if not active:
            break
        logits = _last_logits(tokens[active], lengths[active], params, config)
        if sample.greedy:
            chosen = greedy(logits)
        else:
            masses = probabilities(logits, sample.temperature, sample.top_k, sample.top_p, sample.min_p)
            chosen = draw(masses, torch.stack([draws[row][step] for row in active])).to(device)
        tokens[active, lengths[active]] = chosen
        lengths[active] += 1
        still = []
        for row, token in zip(active, chosen.tolist()):
            if token in stop:
                continue
            new[row].append(token)
            still.append(row)
            if on_token:
                on_token(row, token)
        active = still
    return [torch.tensor(row, dtype=torch.int64) for row in new]


def _last_logits(tokens, lengths, params, config):
    """Logits after the last token of each row. Shapes: tokens (B, room), lengths (B,) -> (B, V)."""
    starts = (lengths - config.context).clamp(min=0)
    window = torch.arange((lengths - starts).max(), device=tokens.device)
    logits = transformer(tokens.gather(1, starts[:, None] + window), params, config)
    return logits[torch.arange(len(tokens), device=tokens.device), lengths - starts - 1]


def _checked(prompt, row, vocab_size):
    prompt = torch.as_tensor(prompt)
    if prompt.ndim != 1 or len(prompt) == 0 or prompt.is_floating_point():
        raise UserError(f"prompt {row} must be a non-empty list of token ids, got shape {tuple(prompt.shape)}")
    prompt = prompt.long()
    if prompt.min() < 0 or prompt.max() >= vocab_size:
        raise UserError(
            f"prompt {row} has token ids from {prompt.min()} to {prompt.max()}; the model knows 0 to {vocab_size - 1}"
        )
    return prompt
