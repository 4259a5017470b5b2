"""One layer of the transformer: attention moves information between positions, the feed-forward network works on it."""

from numpy_ref.model.dropout import dropout
from numpy_ref.model.feed_forward import feed_forward
from numpy_ref.model.moe import moe
from numpy_ref.model.multi_head_attention import multi_head_attention
from numpy_ref.model.norms import norm as normed
from numpy_ref.model.parameters import with_prefix
from numpy_ref.model.residual import residual


def block(x, params, config, mask=None, causal=True, keep=None, layer=0, phases=None, documents=None, routing=None):
    """Attention, then the feed-forward network, each in a residual branch.

        pre:   x = x + drop(attention(norm(x)))        x = x + drop(feed_forward(norm(x)))      (arXiv:2002.04745)
        post:  x = norm(x + drop(attention(x)))        x = norm(x + drop(feed_forward(x)))      (arXiv:1706.03762)

    params: the entries of ``parameter_shapes`` under "blocks.<layer>.", without that prefix. config: ModelConfig.
    mask: bool, True where a query may see a key, broadcastable to (B, heads, T, T).
    keep: None, or dropout masks (B, T, d) of the attention and of the feed-forward branch.
    layer, phases, documents: see ``multi_head_attention``; layer also says whether ``moe`` takes the place of
    feed_forward, and padding goes to no expert.
    routing: None, or in training what ``moe`` takes: then the value is (y, route), where route is None without experts,
    and the vjp takes dlogits as a second argument.

    Shapes: x (B, T, d) -> y (B, T, d);  vjp: dy (B, T, d) -> dx (B, T, d), dparams with the keys of params.
    """
    attention_keep, feed_forward_keep = keep or (None, None)
    branch = _pre_norm if config.norm_position == "pre" else _post_norm

    def norm(name):
        return lambda x: normed(x, with_prefix(params, name), config.norm, config.norm_eps)

    def drop(keep):
        return lambda x: dropout(x, keep, config.dropout)

    def attend(x):
        own = with_prefix(params, "attention")
        return multi_head_attention(x, own, config, mask, causal, layer, phases, documents)

    route = {}

    def feed(x):
        own = with_prefix(params, "feed_forward")
        if layer not in config.moe_layers:
            return feed_forward(x, own, config.activation)
        (y, found), moe_vjp = moe(x, own, config, routing, None if documents is None else documents >= 0)
        route.update(found)
        return y, moe_vjp

    attended, attention_vjp = branch(x, attend, norm("attention_norm"), drop(attention_keep))
    y, feed_forward_vjp = branch(attended, feed, norm("feed_forward_norm"), drop(feed_forward_keep))

    def vjp(dy, *dlogits):
        parts = {}
        dattended, parts["feed_forward"], parts["feed_forward_norm"] = feed_forward_vjp(dy, *dlogits)
        dx, parts["attention"], parts["attention_norm"] = attention_vjp(dattended)
        grads = {f"{part}.{name}": grad for part, named in parts.items() for name, grad in named.items()}
        return dx, {name: grads[name] for name in params}

    return y if routing is None else (y, route or None), vjp


def _pre_norm(x, function, norm, drop):
    """y = x + drop(function(norm(x))). The stream itself is never normalised, so its gradient passes untouched.

    function and norm: x -> y, vjp, where vjp(dy) -> dx, dparams.  vjp: dy -> dx, dparams of function, dparams of norm;
    what else it is given goes to the vjp of function.
    """
    n, norm_vjp = norm(x)
    f, function_vjp = function(n)
    dropped, drop_vjp = drop(f)
    y, sum_vjp = residual(x, dropped)

    def vjp(dy, *more):
        dx, ddropped = sum_vjp(dy)
        dn, dfunction = function_vjp(drop_vjp(ddropped), *more)
        dx_branch, dnorm = norm_vjp(dn)
        return dx + dx_branch, dfunction, dnorm

    return y, vjp


def _post_norm(x, function, norm, drop):
    """y = norm(x + drop(function(x))): the order of the original paper. Arguments as for ``_pre_norm``."""
    f, function_vjp = function(x)
    dropped, drop_vjp = drop(f)
    total, sum_vjp = residual(x, dropped)
    y, norm_vjp = norm(total)

    def vjp(dy, *more):
        dtotal, dnorm = norm_vjp(dy)
        dx, ddropped = sum_vjp(dtotal)
        dx_branch, dfunction = function_vjp(drop_vjp(ddropped), *more)
        return dx + dx_branch, dfunction, dnorm

    return y, vjp
