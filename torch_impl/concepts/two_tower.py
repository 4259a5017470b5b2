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


def tower_mask(keep):
    """The empty context, always; and the sentences up to each, where ``keep``. Shapes: keep (B, T) -> (B, 1, T, T + 1)."""
    places = torch.arange(keep.shape[1], device=keep.device)
    seen = (places <= places[:, None]) & keep[..., None]
    return F.pad(seen, (1, 0), value=True)[:, None]


def cross_attention(x, memory, params, config, mask):
    """Attention of x over the memory with RoPE: rows turn as their places, the queries as the last of these.

    Shapes: x (B, Q, d), memory (B, M, d), mask (B, 1, Q, M) -> (B, Q, d).
    """
    query = linear(x, params["query.weight"]).unflatten(-1, (config.heads, -1)).transpose(1, 2)
    key, value = linear(memory, params["key_value.weight"]).unflatten(-1, (2, config.heads, -1)).permute(2, 0, 3, 1, 4)
    cos, sin = rope_phases(torch.arange(memory.shape[1], device=x.device), config.stack("context"), x.dtype)
    query, key = rotary(query, cos[-x.shape[1] :], sin[-x.shape[1] :]), rotary(key, cos, sin)
    attended = scaled_dot_product_attention(query, key, value, mask)
    return linear(attended.transpose(1, 2).flatten(2), params["output.weight"])


def denoiser_block(x, step, memory, mask, params, config):
    """A block with AdaLN-zero (arXiv:2212.09748 §3.2): shift, scale and gate of both branches come from the step.

    Shapes: x, step (B, Q, d), memory (B, M, d), mask (B, 1, Q, M) -> (B, Q, d).
    """
    modulation = linear(step, params["modulation.weight"], params["modulation.bias"])
    shift, scale, gate, shift_2, scale_2, gate_2 = modulation.chunk(6, -1)
    inner = modulate(rms_norm(x, params["attention_norm.weight"]), shift, scale)
    x = gated(x, cross_attention(inner, memory, with_prefix(params, "attention"), config, mask), gate)
    inner = modulate(rms_norm(x, params["feed_forward_norm.weight"]), shift_2, scale_2)
    return gated(x, feed_forward(inner, with_prefix(params, "feed_forward")), gate_2)


def denoise(noisy, times, context, mask, params, config):
    """Clean concepts from noisy ones. The context is what ``contextualise`` gives; a row of zeros goes in front of it.

    Shapes: noisy (B, Q, c), times (B, Q), context (B, M, d), mask (B, 1, Q, M + 1) -> (B, Q, c).
    """
    step = time_features(times, config.width, context.dtype)
    step = silu(linear(step, params["time.first.weight"], params["time.first.bias"]))
    step = silu(linear(step, params["time.second.weight"], params["time.second.bias"]))
    memory, x = F.pad(context, (0, 0, 1, 0)), linear(noisy, params["noisy.weight"])
    for layer in range(config.denoiser_layers):
        x = denoiser_block(x, step, memory, mask, with_prefix(params, f"denoiser.{layer}"), config)
    return linear(rms_norm(x, params["final_norm.weight"]), params["output.weight"], params["output.bias"])
