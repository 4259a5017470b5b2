"""Declarations of scaled_dot_product_attention, attention_weights, causal_mask and padding_mask."""

import math

import numpy as np

import numpy_ref.model.attention as numpy_attention
import torch_impl.model.attention as torch_attention
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MASKS, attention_mask

MAGNITUDES = ("one", "one", "small", "sixteen", "offset", "heavy", "ties", "constant", "zero")
EVENTS = (
    *(kind for kind in MASKS if kind != "none"), "causal", "more queries", "more keys", "one query", "one key",
    "width 1", "scale given", "scores", "ties", "zero", "offset", "strided", "expanded", "grouped", "one key head",
    "softcap", "bias",
)  # fmt: skip


def draw_scores(source):
    """Everything that makes the probabilities: query, key, mask, causal, scale, softcap, bias."""
    batch, shared = source.integer(1, 2), source.integer(1, 3)
    group = source.choice(1, 2, 3)
    lead, key_lead = (batch, shared * group), (batch, shared)
    queries, width = source.size(33), source.size(33)
    keys = source.choice(queries, source.size(33))
    kind, causal = source.choice("none", "none", *MASKS), source.flag()
    mask = attention_mask(source.rng, kind, lead[0], queries, keys)
    overflow = source.choice(True, False, False, False, False)
    magnitudes = ("scores",) if overflow else MAGNITUDES
    if mask is not None and source.flag():  # broadcast over the batch as well
        mask = mask[0, 0]
    arrays = {
        "query": source.array("query", (*lead, queries, width), magnitudes),
        "key": source.array("key", (*key_lead, keys, width), magnitudes),
        "mask": mask,
        "bias": source.rng.standard_normal((lead[1], queries, keys)) if source.choice(False, False, False, not overflow) else None,
    }
    given = source.flag() and not overflow
    softcap = 0.0 if overflow else source.choice(0.0, 0.0, 0.0, 2.0)
    for event, happens in {
        kind: True, "causal": causal, "more queries": queries > keys, "more keys": queries < keys,
        "one query": queries == 1, "one key": keys == 1, "width 1": width == 1, "scale given": given,
        "grouped": group > 1 and shared > 1, "one key head": group > 1 and shared == 1, "softcap": softcap > 0,
        "bias": arrays["bias"] is not None,
    }.items():  # fmt: skip
        source.event(event, happens)
    return arrays, {"causal": causal, "scale": source.choice(0.1, 0.5, 1.0) if given else None, "softcap": softcap}


def draw(source):
    arrays, static = draw_scores(source)
    lead, keys = arrays["key"].shape[:2], arrays["key"].shape[2]
    arrays["value"] = source.array("value", (*lead, keys, source.size(33)))
    return source.case(arrays, **static)


def cancellation(arguments, dy, unit):
    """Terms that the fused kernel cancels and the plain algorithm does not (arXiv:2205.14135, algorithms 2 and 4).

    P is off by ``loose``; and the backward takes delta = sum(dy * y) where the reference sums dP * P: equal in exact
    arithmetic, but y is rounded.
    """
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    groups, group = key.shape[:-2], query.shape[-3] // key.shape[-3] if key.ndim > 2 else 1
    if group > 1:
        key, value = (np.repeat(x, group, axis=-3) for x in (key, value))
    scale, weights, loose = loose_weights(arguments | {"key": key}, unit)

    def collected(x):  # what a shared head gets from all that read it
        return x if group == 1 else x.reshape(*groups, group, *x.shape[-2:]).sum(-3)

    values_t = np.swapaxes(value, -1, -2)
    size_dp = np.abs(dy) @ np.abs(values_t)
    delta = np.sum(np.abs(dy) * (weights @ np.abs(value)), axis=-1, keepdims=True)
    exact_dp = dy @ values_t
    slope = np.abs(exact_dp - np.sum(exact_dp * weights, axis=-1, keepdims=True))
    delta = delta + np.sum(loose * slope, axis=-1, keepdims=True)
    dscores = scale * ((weights + unit * loose) * (size_dp + delta) + loose * slope)
    return {
        "value": loose @ np.abs(value),
        "dquery": dscores @ np.abs(key),
        "dkey": collected(np.swapaxes(dscores, -1, -2) @ np.abs(query)),
        "dvalue": collected(np.swapaxes(loose, -1, -2) @ np.abs(dy)),
    }


def loose_weights(arguments, unit):
    """(scale, P, error of P in roundoffs): exp(s - lse) is off by 1 + |s| + |lse| roundoffs of itself.

    Where roundoffs of the scores are not small, any key may win: then P may be anything up to 1.
    """
    names = ("query", "key", "mask", "causal", "scale", "softcap", "bias")
    query, key, mask, causal, scale, softcap, bias = (arguments[name] for name in names)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    weights = numpy_attention.attention_weights(query, key, mask, causal, scale, softcap, bias)
    keys_t = np.swapaxes(key, -1, -2)
    scores = scale * (query @ keys_t)
    scores = softcap * np.tanh(scores / softcap) if softcap else scores
    scores = scores if bias is None else scores + bias
    peak = np.max(scores, axis=-1, keepdims=True)
    lse = peak + np.log(np.sum(np.exp(scores - peak), axis=-1, keepdims=True))
    roundoffs = 1 + scale * (np.abs(query) @ np.abs(keys_t)) + np.abs(lse)
    growth = np.expm1(np.minimum(2 * unit * roundoffs, 700.0)) / (2 * unit)
    return scale, weights, np.minimum(weights * growth, (weights > 0) / unit)


def shape(batch, heads, length, width, causal=True):
    def build(rng):
        arrays = {name: rng.standard_normal((batch, heads, length, width)) for name in ("query", "key", "value")}
        return Case(arrays | {"mask": None}, {"causal": causal, "scale": None})

    return build


def flops(case):
    """Two products of queries and keys; the causal half is not counted off, as kernels differ in what they skip."""
    query, key, value = (case.arrays[name] for name in ("query", "key", "value"))
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * pairs * (query.shape[-1] + value.shape[-1])


def moved(case, size):
    query, key, value = (case.arrays[name] for name in ("query", "key", "value"))
    return size * (query.size + key.size + value.size + query.size // query.shape[-1] * value.shape[-1])


ATTENTION = Component(
    name="scaled_dot_product_attention",
    numpy=numpy_attention.scaled_dot_product_attention,
    torch=torch_attention.scaled_dot_product_attention,
    draw=draw,
    differentiable=("query", "key", "value"),
    cancellation=cancellation,
    events=EVENTS,
    weight=1,
    shapes={
        "small": shape(1, 2, 9, 8),
        "showcase": shape(32, 8, 128, 16),
        "wide": shape(32, 6, 256, 64),
    },
    flops=flops,
    bytes=moved,
    bugs=(
        Bug("scale 1 / d", "numpy", "math.sqrt(query.shape[-1])", "query.shape[-1]", "_scale"),
        Bug("scores not scaled", "numpy", "scaled = query * _scale(query, scale)", "scaled = query * 1.0"),
        Bug(
            "causal mask aligned at the start",
            "numpy",
            "np.tri(queries, keys, keys - queries",
            "np.tri(queries, keys, 0",
            "causal_mask",
        ),
        Bug("a query does not see itself", "numpy", "keys - queries,", "keys - queries - 1,", "causal_mask"),
        Bug("a query sees one step ahead", "numpy", "keys - queries,", "keys - queries + 1,", "causal_mask"),
        Bug("mask inverted", "numpy", "np.where(mask, scores, -np.inf)", "np.where(mask, -np.inf, scores)", "_scores"),
        Bug("causal OR mask", "numpy", "visible & mask", "visible | mask", "_scores"),
        Bug("mask dropped when causal", "numpy", "visible if mask is None else visible & mask", "visible", "_scores"),
        Bug("hidden scores 0, not -inf", "numpy", "-np.inf)", "0.0)", "_scores"),
        Bug("hidden scores -1e4, not -inf", "numpy", "-np.inf)", "-1e4)", "_scores"),
        Bug(
            "softmax over the queries",
            "numpy",
            "weights, softmax_vjp = softmax(scores)",
            "weights, softmax_vjp = softmax(_transposed(scores))\n    weights = _transposed(weights)",
        ),
        Bug(
            "dvalue without the mask",
            "numpy",
            "dvalues = _transposed(weights) @ dy",
            "dvalues = _transposed(softmax(scaled @ _transposed(keys))[0]) @ dy",
        ),
        Bug(
            "delta dropped in the softmax's backward",
            "numpy",
            "softmax_vjp(dy @ _transposed(values))",
            "weights * (dy @ _transposed(values))",
        ),
        Bug("dquery not scaled", "numpy", "(dproduct @ keys) * _scale(query, scale)", "(dproduct @ keys)"),
        Bug("dkey not scaled", "numpy", "_transposed(dproduct) @ scaled", "_transposed(dproduct) @ query"),
        Bug(
            "dkey scaled twice",
            "numpy",
            "_transposed(dproduct) @ scaled",
            "_transposed(dproduct) @ (scaled * _scale(query, scale))",
        ),
        Bug(
            "key heads tiled, not repeated",
            "numpy",
            "np.repeat(shared, query.shape[-3] // shared.shape[-3], axis=-3)",
            "np.concatenate([shared] * (query.shape[-3] // shared.shape[-3]), axis=-3)",
            "_for_each_query_head", needs=('grouped',)),
        Bug(
            "gradients of a group averaged",
            "numpy",
            "np.sum(groups, axis=-3)",
            "np.mean(groups, axis=-3)",
            "_summed_over_groups", needs=('grouped',)),
        Bug(
            "gradients collected over the wrong heads",
            "numpy",
            "gradient.reshape(*shared.shape[:-2], -1, *shared.shape[-2:])\n    return np.sum(groups, axis=-3)",
            "gradient.reshape(*shared.shape[:-3], -1, *shared.shape[-3:])\n    return np.sum(groups, axis=-4)",
            "_summed_over_groups", needs=('grouped',)),
        Bug("softcap left out of the backward", "numpy", "scores_vjp(softmax_vjp(", "(softmax_vjp(", needs=('softcap',)),
        Bug("softcap dropped", "numpy", "if softcap:", "if False:", "_scores", needs=('softcap',)),
        Bug("softcap after the bias", "torch", "if softcap:\n        scores = capped(scores, softcap)\n    if bias is not None:\n        scores = scores + bias.to(wide)", "if bias is not None:\n        scores = scores + bias.to(wide)\n    if softcap:\n        scores = capped(scores, softcap)", "_attention_with_scores", needs=('bias', 'softcap')),
        Bug("bias forgotten", "torch", "scores = scores + bias.to(wide)", "pass", "_attention_with_scores", needs=('bias',)),
        Bug("query heads tiled over the key heads", "torch", "shared.repeat_interleave(query.shape[-3] // shared.shape[-3], -3)", "shared.repeat(*[1] * (shared.ndim - 3), query.shape[-3] // shared.shape[-3], 1, 1)", "_for_every_query_head", needs=('grouped',)),
        Bug(
            "kernel's causal flag, aligned at the start",
            "torch",
            'mask is None and queries == keys and backend not in ("explicit", "scores")',
            'mask is None and backend not in ("explicit", "scores")',
        ),
        Bug(
            "blind queries see everything",
            "torch",
            "return y if seeing is None else torch.where(seeing, y, 0)",
            "return y",
        ),
        Bug(
            "given scale ignored",
            "torch",
            "1 / math.sqrt(query.shape[-1]) if scale is None else scale",
            "1 / math.sqrt(query.shape[-1])",
        ),
        Bug("causal forgotten next to a mask", "torch", "causal and queries > 1", "causal and mask is None"),
        Bug(
            "scaled after the product overflowed",
            "torch",
            "torch.baddbmm(bias, q, k.mT, alpha=scale)",
            "torch.bmm(q, k.mT) * scale + bias",
            "_explicit_attention",
            dtype="float16", needs=('scores',)),
        Bug(
            "explicit softmax over the queries",
            "torch",
            "F.softmax(scores, -1)",
            "F.softmax(scores, -2)",
            "_explicit_attention",
            dtype="bfloat16",
        ),
        Bug(
            "queries rounded to bfloat16",
            "torch",
            "queries, keys = query.shape[-2], key.shape[-2]",
            "queries, keys, query = query.shape[-2], key.shape[-2], query.bfloat16().to(query.dtype)",
        ),
    ),
)


def draw_weights(source):
    arrays, static = draw_scores(source)
    return source.case(arrays, **static)


def _repeated(arguments):
    """The arguments with as many key heads as query heads."""
    query, key = arguments["query"], arguments["key"]
    return arguments | {"key": np.repeat(key, query.shape[1] // key.shape[1], axis=1)}


WEIGHTS = Component(
    name="attention_weights",
    numpy=numpy_attention.attention_weights,
    torch=torch_attention.attention_weights,
    draw=draw_weights,
    cancellation=lambda arguments, dy, unit: {"value": loose_weights(_repeated(arguments), unit)[2]},
    events=EVENTS,
    compiles=False,
    weight=2,
    bugs=(
        Bug("scale 1 / d", "numpy", "math.sqrt(query.shape[-1])", "query.shape[-1]", "_scale"),
        Bug(
            "scores, not probabilities",
            "numpy",
            "softmax(_scores(scaled, _for_each_query_head(key, query), mask, causal, softcap, bias)[0])[0]",
            "_scores(scaled, _for_each_query_head(key, query), mask, causal, softcap, bias)[0]",
        ),
        Bug("softcap ignored", "torch", "if softcap:", "if False:"),
        Bug("bias ignored", "torch", "if bias is not None:", "if False:"),
        Bug("mask ignored", "torch", "_visible(mask,", "_visible(None,"),
        Bug("causal ignored", "torch", "_visible(mask, causal,", "_visible(mask, False,"),
        Bug(
            "blind queries are NaN", "torch", "softmax(scores if", "torch.nn.functional.softmax(dim=-1, input=scores if"
        ),
    ),
)


def draw_causal(source):
    queries, keys = source.size(), source.size()
    source.event("more queries", queries > keys)
    source.event("more keys", queries < keys)
    return source.case({}, queries=queries, keys=keys)


CAUSAL_MASK = Component(
    name="causal_mask",
    numpy=numpy_attention.causal_mask,
    torch=torch_attention.causal_mask,
    draw=draw_causal,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("more queries", "more keys"),
    bugs=(
        Bug("aligned at the start", "numpy", "keys - queries,", "0,"),
        Bug("itself hidden", "numpy", "keys - queries,", "keys - queries - 1,"),
        Bug("one step ahead", "torch", "tril(keys - queries)", "tril(keys - queries + 1)"),
        Bug("the future instead of the past", "torch", "tril(keys - queries)", "triu(keys - queries)"),
        Bug(
            "transposed",
            "torch",
            "torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)",
            "torch.ones(keys, queries, dtype=torch.bool, device=device).tril(queries - keys).T",
        ),
    ),
)


def draw_padding(source):
    rows, keys = source.size(9), source.size()
    lengths = source.rng.integers(0, keys + 1, rows)
    source.event("empty row", bool((lengths == 0).any()))
    source.event("full row", bool((lengths == keys).any()))
    return source.case({"lengths": lengths}, keys=keys)


PADDING_MASK = Component(
    name="padding_mask",
    numpy=numpy_attention.padding_mask,
    torch=torch_attention.padding_mask,
    draw=draw_padding,
    exact=True,
    dtypes=("float64",),
    compiles=False,
    events=("empty row", "full row"),
    bugs=(
        Bug("hides the text", "numpy", "< lengths", ">= lengths"),
        Bug("one too many", "numpy", "< lengths", "<= lengths"),
        Bug("padding on the left", "torch", "< lengths[:, None]", ">= keys - lengths[:, None]"),
        Bug("queries hidden, not keys", "torch", "[:, None, None, :]", "[:, None, :, None]"),
    ),
)

COMPONENTS = (ATTENTION, WEIGHTS, CAUSAL_MASK, PADDING_MASK)
