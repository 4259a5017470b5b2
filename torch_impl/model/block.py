"""One layer of the transformer: attention, then feed-forward, each around a residual connection."""

from torch_impl.model.dropout import dropout
from torch_impl.model.feed_forward import feed_forward
from torch_impl.model.moe import moe
from torch_impl.model.multi_head_attention import multi_head_attention
from torch_impl.model.norms import norm as normed
from torch_impl.model.parameters import with_prefix
from torch_impl.model.residual import residual

TORCH_EXTRA_ARGUMENTS = {"run_experts"}


def block(
    x,
    params,
    config,
    mask=None,
    causal=True,
    keep=None,
    layer=0,
    phases=None,
    documents=None,
    routing=None,
    run_experts=None,
):
    """A transformer block.

        pre   (arXiv:2002.04745):                    x = x + drop(attention(norm(x)));  x = x + drop(ff(norm(x)))
        post  ("Attention Is All You Need" §3.1):    x = norm(x + drop(attention(x)));  x = norm(x + drop(ff(x)))

    Shapes: x (B, T, d), params as in ``parameter_shapes`` without "blocks.N.", mask broadcastable to (B, heads, T, T),
    keep None or two bool masks (B, T, d); layer, phases, documents as in ``multi_head_attention`` -> (B, T, d).
    In layers with experts ff is ``moe``. With ``routing``, which it takes in training, (B, T, d) and its route, or None.
    run_experts: as in ``moe``.
    """
    keep_attention, keep_feed_forward = keep or (None, None)

    def norm(name, x):
        return normed(x, with_prefix(params, name), config.norm, config.norm_eps)

    def attention(x):
        own = with_prefix(params, "attention")
        y = multi_head_attention(x, own, config, mask, causal, layer, phases, documents)
        return dropout(y, keep_attention, config.dropout)

    def feeding(x):
        own, route = with_prefix(params, "feed_forward"), None
        if layer in config.moe_layers:
            y, route = moe(x, own, config, routing, None if documents is None else documents >= 0, run_experts)
        else:
            y = feed_forward(x, own, config.activation)
        return dropout(y, keep_feed_forward, config.dropout), route

    if config.norm_position == "pre":
        x = residual(x, attention(norm("attention_norm", x)))
        y, route = feeding(norm("feed_forward_norm", x))
        x = residual(x, y)
    else:
        x = norm("attention_norm", residual(x, attention(x)))
        y, route = feeding(x)
        x = norm("feed_forward_norm", residual(x, y))
    return x if routing is None else (x, route)
