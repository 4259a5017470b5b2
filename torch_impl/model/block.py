"""One layer of the transformer: attention, then feed-forward, each around a residual connection."""

from torch_impl.model.dropout import dropout
from torch_impl.model.feed_forward import feed_forward
from torch_impl.model.multi_head_attention import multi_head_attention
from torch_impl.model.norms import norm as normed
from torch_impl.model.parameters import with_prefix
from torch_impl.model.residual import residual


def block(x, params, config, mask=None, causal=True, keep=None, layer=0, phases=None, documents=None):
    """A transformer block.

        pre   (arXiv:2002.04745):                    x = x + drop(attention(norm(x)));  x = x + drop(ff(norm(x)))
        post  ("Attention Is All You Need" §3.1):    x = norm(x + drop(attention(x)));  x = norm(x + drop(ff(x)))

    Shapes: x (B, T, d), params as in ``parameter_shapes`` without "blocks.N.", mask broadcastable to (B, heads, T, T),
    keep None or two bool masks (B, T, d); layer, phases, documents as in ``multi_head_attention`` -> (B, T, d).
    """
    keep_attention, keep_feed_forward = keep or (None, None)

    def norm(name, x):
        return normed(x, with_prefix(params, name), config.norm, config.norm_eps)

    def attention(x):
        own = with_prefix(params, "attention")
        y = multi_head_attention(x, own, config, mask, causal, layer, phases, documents)
        return dropout(y, keep_attention, config.dropout)

    def feeding(x):
        y = feed_forward(x, with_prefix(params, "feed_forward"), config.activation)
        return dropout(y, keep_feed_forward, config.dropout)

    if config.norm_position == "pre":
        x = residual(x, attention(norm("attention_norm", x)))
        return residual(x, feeding(norm("feed_forward_norm", x)))
    x = norm("attention_norm", residual(x, attention(x)))
    return norm("feed_forward_norm", residual(x, feeding(x)))
