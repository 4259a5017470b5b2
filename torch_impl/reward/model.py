"""Reward models: a scalar head on the transformer."""

import math

import torch

from numpy_ref.errors import UserError
from torch_impl.model.transformer import transformer
from torch_impl.rng import STREAM_REWARD, normal

TORCH_EXTRA_ARGUMENTS = {"forward"}


def reward_model(tokens, ends, params, config, documents=None, recompute=False, forward=transformer):
    """Reward of each text, read at its last token (arXiv:2009.01325 §3.4).

    Shapes: tokens (B, T), ends (N, 2) rows and columns of the last tokens, documents (B, T)? as in ``transformer`` -> (N,)
    in float32, or float64 for such weights. Right padding needs no documents, left padding and packed texts do.
    ``forward``: ``transformer`` or its compiled form.
    """
    x = forward(tokens, params, config, documents=documents, recompute=recompute, logits=False)
    last = x.flatten(0, 1).index_select(0, ends[:, 0] * tokens.shape[1] + ends[:, 1])
    return scalar_head(last, params["reward.weight"], params["reward.bias"])


def scalar_head(x, weight, bias):
    """x weight^T + bias in float32 or better. Shapes: x (N, d), weight (1, d), bias (1,) -> (N,)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.to(wide) @ weight[0].to(wide) + bias.to(wide)


def with_reward_head(params, config, seed):
    """The parameters that a reward model starts from: those of a language model, its output matrix replaced by a scalar
    head of standard deviation 1 / sqrt(width + 1) (as in the code of arXiv:2009.01325)."""
    like = params["token_embedding.weight"]
    weight = normal(seed, STREAM_REWARD, (1, config.width), device=like.device) / math.sqrt(config.width + 1)
    head = {"reward.weight": weight.to(like), "reward.bias": like.new_zeros(1)}
    return {name: value for name, value in params.items() if name != "output.weight"} | head


def ensemble(rewards, rule="mean", k=1.0):
    """Rewards (M, B) of M models -> (B,): their mean, the worst of them, or "lower", mean - k standard deviations
    (arXiv:2310.02743 §3.2 for the first two)."""
    if rule == "mean":
        return rewards.mean(0)
    if rule == "worst":
        return rewards.amin(0)
    if rule == "lower":
        return rewards.mean(0) - k * rewards.std(0, correction=0)
    raise UserError(f'rule={rule!r} is unknown; choose "mean", "worst" or "lower"')
