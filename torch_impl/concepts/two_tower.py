"""Two-tower diffusion over concepts (arXiv:2412.08821 §2.3.4), with places in the attention over the context."""

import torch
import torch.nn.functional as F

from torch_impl.concepts.adaln import gated, modulate, time_features
from torch_impl.model.activations import silu
from torch_impl.model.attention import scaled_dot_product_attention
from torch_impl.model.block import with_prefix
from torch_impl.model.feed_forward import feed_forward
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm
from torch_impl.model.positions import rope_phases, rotary

TORCH_EXTRA_ARGUMENTS = {"known"}
TORCH_ONLY = {"memory_keys"}


def tower_mask(keep):
    """The empty context, always; and the sentences up to each, where ``keep``. Shapes: keep (B, T) -> (B, 1, T, T + 1)."""
    places = torch.arange(keep.shape[1], device=keep.device)
    seen = (places <= places[:, None]) & keep[..., None]
    return F.pad(seen, (1, 0), value=True)[:, None]


def cross_attention(x, memory, params, config, mask, known=None):
    """Attention of x over the memory with RoPE: rows turn as their places, the queries as the last of these.

    Shapes: x (B, Q, d), memory (B, M, d), mask (B, 1, Q, M) -> (B, Q, d). known: keys and values, if they have been
    computed before.
    """
    query = linear(x, params["query.weight"]).unflatten(-1, (config.heads, -1)).transpose(1, 2)
    cos, sin = rope_phases(torch.arange(memory.shape[1], device=x.device), config.stack("context"), x.dtype)
    key, value = _keys(memory, params, config, cos, sin) if known is None else known
    query = rotary(query, cos[-x.shape[1] :], sin[-x.shape[1] :])
    attended = scaled_dot_product_attention(query, key, value, mask)
    return linear(attended.transpose(1, 2).flatten(2), params["output.weight"])


def _keys(memory, params, config, cos, sin):
    """Keys, turned as their places, and values: (B, H, M, d / H) each."""
    key, value = linear(memory, params["key_value.weight"]).unflatten(-1, (2, config.heads, -1)).permute(2, 0, 3, 1, 4)
    return rotary(key, cos, sin), value


def memory_keys(context, params, config):
    """Keys and values of the context in every block of the denoiser, which are the same at every step of the sampler.

    Shapes: context (B, M, d) -> for each block two of (B, H, M + 1, d / H).
    """
    memory = F.pad(context, (0, 0, 1, 0))
    phases = rope_phases(torch.arange(memory.shape[1], device=context.device), config.stack("context"), context.dtype)
    own = (with_prefix(params, f"denoiser.{layer}.attention") for layer in range(config.denoiser_layers))
    return [_keys(memory, weights, config, *phases) for weights in own]


def denoiser_block(x, step, memory, mask, params, config, known=None):
    """A block with AdaLN-zero (arXiv:2212.09748 §3.2): shift, scale and gate of both branches come from the step.

    Shapes: x, step (B, Q, d), memory (B, M, d), mask (B, 1, Q, M) -> (B, Q, d). step may have one row for all.
    """
    modulation = linear(step, params["modulation.weight"], params["modulation.bias"])
    shift, scale, gate, shift_2, scale_2, gate_2 = modulation.chunk(6, -1)
    inner = modulate(rms_norm(x, params["attention_norm.weight"]), shift, scale)
    x = gated(x, cross_attention(inner, memory, with_prefix(params, "attention"), config, mask, known), gate)
    inner = modulate(rms_norm(x, params["feed_forward_norm.weight"]), shift_2, scale_2)
    return gated(x, feed_forward(inner, with_prefix(params, "feed_forward")), gate_2)


def denoise(noisy, times, context, mask, params, config, known=None):
    """Clean concepts from noisy ones. The context is what ``contextualise`` gives; a row of zeros goes in front of it.

    Shapes: noisy (B, Q, c), times (B, Q) or (1, 1), context (B, M, d), mask (B, 1, Q, M + 1) -> (B, Q, c). known: what
    ``memory_keys`` gave.
    """
    step = time_features(times, config.width, context.dtype)
    step = silu(linear(step, params["time.first.weight"], params["time.first.bias"]))
    step = silu(linear(step, params["time.second.weight"], params["time.second.bias"]))
    memory, x = F.pad(context, (0, 0, 1, 0)), linear(noisy, params["noisy.weight"])
    for layer in range(config.denoiser_layers):
        own = with_prefix(params, f"denoiser.{layer}")
        x = denoiser_block(x, step, memory, mask, own, config, None if known is None else known[layer])
    return linear(rms_norm(x, params["final_norm.weight"]), params["output.weight"], params["output.bias"])
