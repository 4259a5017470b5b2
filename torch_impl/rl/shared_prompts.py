"""Completions of one prompt in one row behind it: what they have in common is computed once.

    row     prompt  completion 1  completion 2  ...        completions see the prompt and themselves
    place   0..S-1  S..           S+R-1..
    counts  0..s-1  s..           s..                      positions go on from each prompt's own end
"""

import torch
import torch.nn.functional as F

TORCH_ONLY_FILE = "an order of the same tokens in which fewer are computed; the result is the same"

_PAYS = 0.8  # share of the tokens: with more than that left, plain rows are as fast


def reader(tokens, mask, config, shared, forward):
    """A function (params, config) -> the hidden states (N, d) from which the N targets tokens[:, 1:][mask] are predicted.

    Shapes: tokens (B, T), mask (B, T - 1) bool, shared None or prompts, starts (B,).
    """
    packed = None if shared is None or config.window or config.positions == "alibi" else _packed(tokens, mask, *shared)
    if packed is None:
        return lambda params, config: forward(tokens[:, :-1], params, config, logits=False)[mask]
    rows, visible, positions, place = packed
    chosen = place[mask]

    def read(params, config):
        x = forward(rows, params, config, mask=visible, positions=positions, logits=False)
        return x.flatten(0, 1)[chosen]

    return read


def _packed(tokens, mask, prompts, starts):
    """(tokens (P, W), mask (P, 1, W, W), positions (P, W), where each prediction (B, T - 1) is found in P W); None where
    too little is shared to be worth it."""
    number, counts = prompts.unique_consecutive(return_inverse=True, return_counts=True)[1:]
    groups, most, longest = len(counts), int(counts.max()), int(starts.max())
    rest = int(mask.sum(1).max()) - 1  # inputs of a completion: all of its tokens but the last
    width = longest + most * rest
    if groups * width > _PAYS * len(tokens) * (tokens.shape[1] - 1) or rest < 1:
        return None
    device = tokens.device
    first = counts.cumsum(0) - counts
    own = torch.arange(len(tokens), device=device) - first[number]  # which of its group a row is
    begin = starts[first]

    step = torch.arange(rest, device=device)
    wide = F.pad(tokens, (0, rest))
    said = wide.gather(1, starts[:, None] + step)  # (B, rest): the completions, padding behind
    rows = tokens.new_zeros(groups, width)
    rows[:, :longest] = wide[first, :longest]
    slots = longest + own[:, None] * rest + step
    rows[number[:, None], slots] = said

    owner = torch.cat((torch.full((longest,), -1, device=device), torch.arange(most, device=device).repeat_interleave(rest)))
    prompt = torch.arange(width, device=device) < begin[:, None]  # (P, W): real tokens of the prompt
    same = owner[:, None] == owner
    visible = (same & (owner >= 0)) | prompt[:, None, :]  # causality comes on top
    positions = torch.cat((torch.arange(longest, device=device).expand(groups, -1), begin[:, None] + step.repeat(most)), 1)

    at = torch.arange(tokens.shape[1] - 1, device=device)
    behind = at - starts[:, None]  # which token of the completion is read at ``at``, below 0: the prompt's
    place = torch.where(behind < 0, at, longest + own[:, None] * rest + behind.clamp(max=rest - 1))
    return rows, visible[:, None], positions, number[:, None] * width + place
