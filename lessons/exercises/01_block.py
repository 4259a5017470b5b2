"""Lesson 1: the residual stream of a pre-norm block (arXiv:2002.04745).

    x = x + drop(attention(norm(x)))
    x = x + drop(feed_forward(norm(x)))

The four parts below each take x and return (value, vjp). The vjp of ``attend``, ``feed`` and of the norms returns
(dx, dparams); that of ``drop`` returns dx. Put them together, forward and backward.

    x (B, T, d) -> y (B, T, d);    vjp: dy (B, T, d) -> dx (B, T, d), a dict of gradients with the keys of params

The gradient of a parameter of the part "attention" has the name "attention.<name>", and so on.
"""

from numpy_ref.model.block import with_prefix
from numpy_ref.model.dropout import dropout
from numpy_ref.model.feed_forward import feed_forward
from numpy_ref.model.multi_head_attention import multi_head_attention
from numpy_ref.model.norms import norm as normed


def block(x, params, config, mask=None, causal=True, keep=None, layer=0, phases=None, documents=None):
    attention_keep, feed_forward_keep = keep or (None, None)

    def norm(name, x):  # name: "attention_norm" or "feed_forward_norm"
        return normed(x, with_prefix(params, name), config.norm, config.norm_eps)

    def drop(x, keep):
        return dropout(x, keep, config.dropout)

    def attend(x):
        return multi_head_attention(x, with_prefix(params, "attention"), config, mask, causal, layer, phases, documents)

    def feed(x):
        return feed_forward(x, with_prefix(params, "feed_forward"), config.activation)

    raise NotImplementedError  # y

    def vjp(dy):
        parts = {}  # part -> its dparams: "attention", "attention_norm", "feed_forward", "feed_forward_norm"
        raise NotImplementedError  # dx
        grads = {f"{part}.{name}": grad for part, named in parts.items() for name, grad in named.items()}
        return dx, {name: grads[name] for name in params}

    return y, vjp
