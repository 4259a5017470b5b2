"""One pass over rolled-out texts: log-probabilities, entropies and values of the tokens that count."""

import torch

from numpy_ref.rl.parts import critic_config, critic_params, policy_params, with_critic
from torch_impl.model.activations import softcap
from torch_impl.model.linear import linear
from torch_impl.model.transformer import transformer
from torch_impl.reward.model import scalar_head
from torch_impl.rl.shared_prompts import reader
from torch_impl.training.token_logprobs import linear_token_logprobs, token_entropy, token_logprobs

TORCH_EXTRA_ARGUMENTS = {"forward", "entropy", "shared"}

_LARGEST = 1 << 24  # logits that may be in memory at once: 64 MiB in float32


def policy(
    tokens, mask, params, config, temperature=1.0, kept=None, forward=transformer, entropy=True, shared=None
):
    """For every target tokens[:, 1:] that the mask shows: its log-probability, the entropy of its distribution, and the
    critic's value before it, all read where it was predicted.

    Only those positions reach the output head; beyond 2^24 logits they do so in chunks. Shapes: tokens (B, T) integers,
    mask (B, T - 1) bool, kept (B, T - 1, V) bool or None -> three of (B, T - 1), 0 where masked; values are 0 for a
    config without a critic. ``entropy=False``: its gradient is not wanted, which saves most of its work.
    ``forward``: ``transformer`` or its compiled form. ``shared``: None, or (prompts, starts), each (B,): rows next to each
    other with the same number in ``prompts`` begin with the same ``starts`` tokens, and the mask shows nothing of them. The
    model then reads these tokens once, with the same result and gradients (the idea of arXiv:2506.05433).
    """
    targets, own = tokens[:, 1:][mask], policy_params(params)
    read = reader(tokens, mask, config, shared, forward)
    x = read(own, config)
    logprobs, spread = _head(x, targets, own, config, temperature, None if kept is None else kept[mask], entropy)
    return tuple(_placed(rows, mask) for rows in (logprobs, spread, _values(x, params, config, read)))


def with_value(params, config, reward=None):
    """The parameters with a value head of zeros, or with a critic apart: the ``reward`` model, or the policy's trunk
    under such a head."""
    like = params["token_embedding.weight"]
    weight, bias = like.new_zeros(1, config.width), like.new_zeros(1)
    if config.output == "value":
        return params | {"value.weight": weight, "value.bias": bias}
    if config.output != "critic":
        return params
    if reward is None:
        trunk = {name: value for name, value in params.items() if name != "output.weight"}
        reward = trunk | {"reward.weight": weight, "reward.bias": bias}
    return with_critic(params, {name: value.clone() for name, value in reward.items()})


def _head(x, targets, params, config, temperature, kept, entropy):
    """Log-probabilities and entropies (N,) of hidden states (N, d)."""
    weight = params["token_embedding.weight" if config.tie_embeddings else "output.weight"]
    if kept is None and len(x) * config.vocab_size > _LARGEST:
        chunk = max(1, _LARGEST // config.vocab_size)
        both = linear_token_logprobs(x, weight, targets, config.logit_softcap, temperature, chunk=chunk)
        return both[0], both[1] if entropy else both[1].detach()
    logits = linear(x, weight)
    logits = softcap(logits, config.logit_softcap) if config.logit_softcap else logits
    spread = token_entropy(logits if entropy else logits.detach(), temperature, kept)
    return token_logprobs(logits, targets, temperature, kept), spread


def _values(x, params, config, read):
    if config.output == "value":
        return scalar_head(x, params["value.weight"], params["value.bias"])
    if config.output != "critic":
        return x.new_zeros(len(x))
    own = critic_params(params)
    return scalar_head(read(own, critic_config(config)), own["reward.weight"], own["reward.bias"])


def _placed(rows, mask):
    return torch.zeros(mask.shape, dtype=rows.dtype, device=rows.device).masked_scatter(mask, rows)
