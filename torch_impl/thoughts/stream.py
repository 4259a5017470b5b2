"""The transformer on vectors, with the keys and values of earlier ones kept; gradients flow through them."""

import torch

from numpy_ref.thoughts.settings import require_plain
from torch_impl.model.activations import softcap
from torch_impl.model.attention import scaled_dot_product_attention
from torch_impl.model.feed_forward import feed_forward
from torch_impl.model.linear import linear
from torch_impl.model.multi_head_attention import attended_heads, project
from torch_impl.model.norms import norm
from torch_impl.model.parameters import with_prefix
from torch_impl.model.positions import learned_positions, rope_phases, sinusoidal_positions
from torch_impl.model.residual import residual


def hidden_states(x, params, config, past=None):
    """Last hidden states, normed, of inputs that follow those of ``past``, in one pass over the new ones alone.

    past: None or [(key, value) of each layer (B, G, P, hd)], as this function returns it; nothing is written in place, so
    that the graph of earlier inputs stays whole.
    Shapes: x (B, n, d) -> (B, n, d), past with the new keys and values. UserError as in ``require_plain``.
    """
    require_plain(config)
    start = 0 if past is None else past[0][0].shape[2]
    places = torch.arange(start, start + x.shape[1], device=x.device)[None]
    if config.positions == "learned":
        x = residual(x, learned_positions(places, params["position_embedding.weight"]))
    elif config.positions == "sinusoidal":
        x = residual(x, sinusoidal_positions(places, config.width, x.dtype))
    phases = rope_phases(places, config, x.dtype) if config.positions == "rope" else None
    kept = []
    for layer in range(config.layers):
        before = None if past is None else past[layer]
        x, new = _block(x, with_prefix(params, f"blocks.{layer}"), config, phases, before)
        kept.append(new)
    if config.norm_position == "pre":
        x = norm(x, with_prefix(params, "final_norm"), config.norm, config.norm_eps)
    return x, kept


def past_rows(past, rows):
    """The keys and values of the rows numbered in ``rows`` (n,)."""
    return [tuple(part[rows] for part in layer) for layer in past]


def word_logits(hidden, params, config):
    """Scores of the next token. Shapes: normed hidden (..., d) -> (..., V)."""
    logits = linear(hidden, params["token_embedding.weight" if config.tie_embeddings else "output.weight"])
    return softcap(logits, config.logit_softcap) if config.logit_softcap else logits


def _block(x, params, config, phases, past):
    """``block`` whose attention sees ``past`` (key, value) as well. Shapes: x (B, n, d) -> (B, n, d), (key, value)."""

    def normed(name, x):
        return norm(x, with_prefix(params, name), config.norm, config.norm_eps)

    def attention(x):
        own = with_prefix(params, "attention")
        query, key, value = project(x, own, config, phases)
        if past is not None:
            key, value = (torch.cat(pair, 2) for pair in zip(past, (key, value)))
        y = scaled_dot_product_attention(query, key, value, None, True, None, config.attention_softcap)
        y = attended_heads(y, config).transpose(1, 2).flatten(2)
        return linear(y, own["output.weight"], own.get("output.bias")), (key, value)

    def feeding(x):
        return feed_forward(x, with_prefix(params, "feed_forward"), config.activation)

    if config.norm_position == "pre":
        y, new = attention(normed("attention_norm", x))
        x = residual(x, y)
        return residual(x, feeding(normed("feed_forward_norm", x))), new
    y, new = attention(x)
    x = normed("attention_norm", residual(x, y))
    return normed("feed_forward_norm", residual(x, feeding(x))), new
