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
    "width 1", "scale given", "scores", "ties", "zero", "offset", "strided", "expanded",
)  # fmt: skip


def draw_scores(source):
    """Everything that makes the probabilities: query, key, mask, causal, scale."""
    lead = (source.integer(1, 2), source.integer(1, 3))
    queries, width = source.size(33), source.size(33)
    keys = source.choice(queries, source.size(33))
    kind, causal = source.choice(*MASKS), source.flag()
    mask = attention_mask(source.rng, kind, lead[0], queries, keys)
    overflow = source.choice(True, False, False, False, False)
    magnitudes = ("scores",) if overflow else MAGNITUDES
    if mask is not None and source.flag():  # broadcast over the batch as well
        mask = mask[0, 0]
    arrays = {
        "query": source.array("query", (*lead, queries, width), magnitudes),
        "key": source.array("key", (*lead, keys, width), magnitudes),
        "mask": mask,
    }
    given = source.flag() and not overflow
    for event, happens in {
        kind: True, "causal": causal, "more queries": queries > keys, "more keys": queries < keys,
        "one query": queries == 1, "one key": keys == 1, "width 1": width == 1, "scale given": given,
    }.items():  # fmt: skip
        source.event(event, happens)
    return arrays, {"causal": causal, "scale": source.choice(0.1, 0.5, 1.0) if given else None}


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
    scale, weights, loose = loose_weights(arguments, unit)
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
        "dkey": np.swapaxes(dscores, -1, -2) @ np.abs(query),
        "dvalue": np.swapaxes(loose, -1, -2) @ np.abs(dy),
    }


def loose_weights(arguments, unit):
    """(scale, P, error of P in roundoffs): exp(s - lse) is off by 1 + |s| + |lse| roundoffs of itself.

    Where roundoffs of the scores are not small, any key may win: then P may be anything up to 1.
    """
    query, key, mask, causal, scale = (arguments[name] for name in ("query", "key", "mask", "causal", "scale"))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    weights = numpy_attention.attention_weights(query, key, mask, causal, scale)
    keys_t = np.swapaxes(key, -1, -2)
    scores = scale * (query @ keys_t)
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
            "weights, softmax_vjp = softmax(_scores(scaled, key, mask, causal))",
            "weights, softmax_vjp = softmax(_transposed(_scores(scaled, key, mask, causal)))\n"
            "    weights = _transposed(weights)",
        ),
        Bug(
            "dvalue without the mask",
            "numpy",
            "dvalue = _transposed(weights) @ dy",
            "dvalue = _transposed(softmax(scaled @ _transposed(key))[0]) @ dy",
        ),
        Bug(
            "delta dropped in the softmax's backward",
            "numpy",
            "dscores = softmax_vjp(dy @ _transposed(value))",
            "dscores = weights * (dy @ _transposed(value))",
        ),
        Bug("dquery not scaled", "numpy", "(dscores @ key) * _scale(query, scale)", "(dscores @ key)"),
        Bug("dkey not scaled", "numpy", "_transposed(dscores) @ scaled", "_transposed(dscores) @ query"),
        Bug(
            "dkey scaled twice",
            "numpy",
            "_transposed(dscores) @ scaled",
            "_transposed(dscores) @ (scaled * _scale(query, scale))",
        ),
        Bug("kernel's causal flag, aligned at the start", "torch", "queries == keys and not explicit", "not explicit"),
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
            dtype="float16",
        ),
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


WEIGHTS = Component(
    name="attention_weights",
    numpy=numpy_attention.attention_weights,
    torch=torch_attention.attention_weights,
    draw=draw_weights,
    cancellation=lambda arguments, dy, unit: {"value": loose_weights(arguments, unit)[2]},
    events=EVENTS,
    compiles=False,
    weight=2,
    bugs=(
        Bug("scale 1 / d", "numpy", "math.sqrt(query.shape[-1])", "query.shape[-1]", "_scale"),
        Bug(
            "scores, not probabilities",
            "numpy",
            "softmax(_scores(query * _scale(query, scale), key, mask, causal))[0]",
            "_scores(query * _scale(query, scale), key, mask, causal)",
        ),
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
