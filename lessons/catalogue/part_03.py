"""Exercises of lesson 3: what modern models changed, and how they write fast."""

from dataclasses import replace

from lessons.exercise import Exercise, as_array
from parity_tests.components.activations import SILU, SWIGLU
from parity_tests.components.attention import ATTENTION
from parity_tests.components.kv_cache import SLOT
from parity_tests.components.masks import ALIBI_BIAS, VISIBLE_KEYS
from parity_tests.components.norms import RMS_NORM
from parity_tests.components.positions import FREQUENCIES, ROTARY
from parity_tests.components.speculative import ACCEPT, NGRAM_PROPOSAL
from parity_tests.harness.declaration import Bug

KIND = ("one", "small", "sixteen", "ties", "constant", "zero")


def draw_norm(source):
    width = source.size(9)
    arrays = {"x": source.array("x", (*source.leading(), width), (*KIND, "offset")), "weight": source.weight("weight", (width,))}
    return source.case(arrays, eps=source.choice(1e-6, 1e-2))


def draw_halves(source):
    return source.case({"x": source.array("x", (*source.leading(), 2 * source.size(9)), KIND)})


def draw_silu(source):
    return source.case({"x": source.array("x", (*source.leading(), source.size(9)), (*KIND, "above exp"))})


def draw_frequencies(source):
    width = 2 * source.integer(2, 16)
    return source.case({}, width=width, base=source.choice(1e4, 5e5), scaling=source.choice("none", "linear", "ntk"), factor=source.choice(1.0, 2.0, 8.0))


def draw_grouped(source):
    """Fewer key than query heads; causal, as many queries as keys."""
    groups, group, length, width = source.integer(1, 3), source.integer(2, 3), source.size(7), source.size(5)
    arrays = {
        "query": source.array("query", (groups * group, length, width), KIND),
        "key": source.array("key", (groups, length, width), KIND),
        "value": source.array("value", (groups, length, width), KIND),
    }
    return source.case(arrays, causal=True)


EXERCISES = (
    Exercise(
        name="03_rms_norm",
        title="RMS norm, forward",
        component=replace(RMS_NORM, draw=draw_norm),
        minutes=5,
        value_only=True,
        hints=(
            "It is a layer norm that does not centre: nothing is subtracted.",
            "r = sqrt(mean(x * x) + eps) over the last axis; y = x / r * weight.",
        ),
        mistakes={
            "eps outside the root": "eps belongs inside the square root: sqrt(mean(x^2) + eps).",
            "eps ignored": "eps is missing: a row of zeros divides by zero.",
            "sum for mean": "it is the root of the *mean* square, not of the sum.",
            "centred, as a layer norm": "RMS norm does not subtract the mean.",
            "1 + weight": "the weight multiplies what was normalised (some models store weight - 1; here it is the weight itself).",
        },
    ),
    Exercise(
        name="03_rms_norm_backward",
        title="RMS norm, backward",
        component=replace(RMS_NORM, draw=draw_norm),
        minutes=20,
        hints=(
            "y = n * weight first: dweight sums dy * n over all rows, dn = dy * weight.",
            "n = x / r, and r depends on x by dr/dx = x / (d r) = n / d.",
            "Two terms: dn / r straight, and through r: -n * mean(dn * n) / r.",
        ),
        mistakes={
            "weight forgotten in dx": "dx starts from dn = dy * weight; the weight is missing.",
            "slope term forgotten in dx": "r depends on x, too: the term -n * mean(dn * n) is missing.",
            "dweight without n": "y = n * weight, so dweight sums dy * n; here x stands in the place of n.",
            Bug("mean taken off, as in a layer norm", "numpy", "dn = dy * weight", "dn = dy * weight - np.mean(dy * weight, axis=-1, keepdims=True)"): (
                "the mean of dn was subtracted: that belongs to layer norm, which centres. RMS norm does not."
            ),
        },
    ),
    Exercise(
        name="03_silu",
        title="SiLU and its derivative",
        component=replace(SILU, draw=draw_silu),
        minutes=15,
        hints=(
            "y = x s with s = 1 / (1 + exp(-x)). For x = -1000 that exp overflows to inf, and x / inf is -0: harmless here, with a warning.",
            "The logistic function has the slope s (1 - s). Product rule.",
            "dx = dy * s * (1 + x * (1 - s)). 1 - s is 1 / (1 + exp(x)): that form keeps its digits where s is close to 1.",
        ),
        mistakes={
            "sigmoid alone": "SiLU is x times its logistic function; the x is missing.",
            "slope without the second term": "the product rule has two terms: s, and x times the slope of s.",
            "slope of the sigmoid": "that is the derivative of the logistic function; y = x s has one more term.",
        },
    ),
    Exercise(
        name="03_swiglu",
        title="A gate: SwiGLU, forward and backward",
        component=replace(SWIGLU, draw=draw_halves),
        minutes=15,
        hints=(
            "Split the last axis in two halves, a first: y = silu(a) * b.",
            "silu(a) comes with its vjp. db = dy * silu(a), da = silu_vjp(dy * b).",
            "Put both gradients side by side again, in the order of the halves.",
        ),
        mistakes={
            "halves swapped": "the first half is bent and gates the second; here it is the other way round.",
            "neighbours for halves": "the halves are the first and the second half of the features, not every other one.",
            "gradients of the halves swapped": "the gradients of both halves changed places.",
            "gradient of the gate without the other half": "y = silu(a) * b: the gradient of a is multiplied by b.",
        },
    ),
    Exercise(
        name="03_rope_frequencies",
        title="How fast RoPE turns, and how it is stretched",
        component=replace(FREQUENCIES, draw=draw_frequencies),
        minutes=20,
        hints=(
            "Pair i turns by base^(-2i / width) radians a token, i = 0 ... width / 2 - 1: from 1 down to nearly 1 / base.",
            '"linear" divides every frequency by the factor: positions move closer together.',
            '"ntk" changes the base instead: base * factor^(width / (width - 2)), so the fastest pair keeps its speed.',
        ),
        mistakes={
            "exponent i / width": "pair i has the exponent 2i / width.",
            "scaling parsed but not applied": 'with scaling "linear" every frequency is divided by the factor.',
            "ntk exponent of 1": "ntk multiplies the base by factor^(width / (width - 2)); the exponent is missing.",
            Bug("linear multiplies", "numpy", 'if scaling == "linear":\n        return f / factor, 1.0', 'if scaling == "linear":\n        return f * factor, 1.0'): (
                "a longer text needs slower turns: divide the frequencies by the factor."
            ),
        },
    ),
    Exercise(
        name="03_rope",
        title="RoPE: pairs of features turn",
        component=ROTARY,
        minutes=25,
        hints=(
            "r = 2 * cos.shape[-1] features turn, the rest passes. A pair is (i, i + r/2), or (2i, 2i + 1) if interleaved.",
            "y_a = x_a cos - x_b sin and y_b = x_a sin + x_b cos; put them back where they came from.",
            "The transpose of a rotation is the rotation back: the backward pass is the forward pass with -sin.",
            "Features from r on pass unchanged, and so does their gradient.",
        ),
        mistakes={
            "pairs of the other convention": "interleaved means that pairs are neighbours (2i, 2i + 1); otherwise they lie half apart (i, i + r/2).",
            "turned the other way": "the rotation goes the other way: y_a = x_a cos - x_b sin.",
            "backward turns on": "the backward pass turns back: sin changes its sign.",
            "resting features forgotten in the backward": "features that don't turn pass their gradient on.",
            "phases of the next token": "each token has phases of its own; they were shifted by a token.",
        },
    ),
    Exercise(
        name="03_alibi",
        title="ALiBi: near keys are liked better",
        component=ALIBI_BIAS,
        minutes=10,
        hints=(
            "The distance is query position minus key position, and never below 0: what lies ahead is hidden anyway.",
            "bias = -slope * distance, one slope a head: the shape is (B, H, Tq, Tk).",
        ),
        mistakes={
            "far keys liked better": "the bias is negative and grows with the distance: -slope * distance.",
            "not cut at the query": "keys in the future get a bias of 0, not a positive one.",
            "distance from 1": "a query's distance to itself is 0.",
        },
    ),
    Exercise(
        name="03_grouped_queries",
        title="Grouped queries: several heads read one key",
        component=replace(ATTENTION, draw=draw_grouped),
        minutes=35,
        hints=(
            "Repeat each key and value head H / G times, next to each other: np.repeat along the axis of the heads. Then it is plain attention.",
            "Query head h reads key head h // (H / G).",
            "A key head that several query heads read collects the gradients of all of them: reshape to (G, H / G, T, d) and sum.",
            "The rest is the exercise 01_attention; do that one first.",
        ),
        mistakes={
            "key heads tiled, not repeated": "query head h reads key head h // (H / G): neighbours share a key. np.repeat, not np.tile.",
            "gradients of a group averaged": "the gradients of all heads that read a key add up; they were averaged.",
            "gradients collected over the wrong heads": "the heads that share a key are neighbours: reshape to (G, H / G, T, d) and sum over the second axis.",
            "scores not scaled": "the scores must be divided by sqrt(d).",
            "dquery not scaled": "the queries were scaled in the forward pass, so dquery is scaled as well.",
            "dkey not scaled": "the keys met scaled queries: dkey = dS^T (Q / sqrt(d)).",
        },
    ),
    Exercise(
        name="03_visible_keys",
        title="Windows, sinks and documents: who may see whom",
        component=VISIBLE_KEYS,
        minutes=25,
        hints=(
            "Give both positions an axis of their own: query[:, :, None] and key[:, None, :].",
            "Start with causality and empty slots: 0 <= key <= query. With a window, and only then: query - key < window, or key < sinks.",
            "A window of W counts the query itself: it sees exactly W keys. Sinks are subject to causality as well.",
            "Where documents are given, both must be the same. At the end add the axis of the heads: [:, None].",
        ),
        mistakes={
            "window of W + 1": "a window of W sees exactly W keys, the query's own among them: query - key < W.",
            "window of W - 1": "a window of W sees exactly W keys, the query's own among them; here it is one less.",
            "a query does not see itself": "a query sees its own position: key <= query.",
            "one step ahead": "a query sees one key of its future.",
            "empty slots seen": "a position of -1 is an empty slot; nobody sees it.",
            "one sink too many": "the sinks are the keys 0 ... sinks - 1.",
            "sinks without causality": "sinks are keys like others: the future stays hidden.",
            "documents see each other": "a query sees keys of its own document only.",
        },
    ),
    Exercise(
        name="03_ring_slot",
        title="A cache that does not grow: the slot of a position",
        component=SLOT,
        minutes=15,
        hints=(
            "While there are slots enough, a position takes its own number.",
            "After that it goes round the ring behind the sinks, which stay where they are: slots - sinks places.",
            "sinks + (p - sinks) % (slots - sinks). Padding at position -1 is below `slots` and stays -1.",
        ),
        mistakes={
            "sinks overwritten": "the first `sinks` slots belong to the sinks for ever; the ring turns behind them.",
            "ring one too long": "the ring has slots - sinks places.",
            "counted from 0 behind the sinks": "inside the ring, positions count from the first one behind the sinks: (p - sinks) % ring.",
        },
    ),
    Exercise(
        name="03_ngram_proposal",
        title="A guess for free: what followed the last time",
        component=replace(NGRAM_PROPOSAL, call=as_array),
        minutes=20,
        hints=(
            "Two loops: the length of the ending, from the longest to 1; and its earlier places, from the latest to the first.",
            "The ending itself is no earlier place: the last place to look at starts at len(tokens) - size - 1.",
            "Return the tokens behind it, at most `ahead`; [] if nothing is found.",
        ),
        mistakes={
            "finds its own end": "the end of the text is no earlier place of itself.",
            "the earliest place": "the latest earlier place counts: what is near is more like what follows.",
            "the shortest end first": "long endings are tried first: they say more.",
            "repeats the end": "the guess is what followed there, not what was found.",
        },
    ),
    Exercise(
        name="03_accept",
        title="Speculative decoding: keep or refuse a guess",
        component=ACCEPT,
        minutes=30,
        hints=(
            "Guess i is kept with probability min(1, p_i / q_i): that is uniforms[i] * q_i < p_i, without a division.",
            "At the first refusal draw from what the draft gave too little of: max(p_i - q_i, 0), with the last uniform number.",
            "If all are kept, one more token is drawn from the last target: the model's pass was paid for anyway.",
        ),
        mistakes={
            "ratio upside down": "the model's probability stands above the draft's: keep with probability min(1, p / q).",
            "drawn from the target, not from the rest": "after a refusal draw from max(p - q, 0): drawing from p would give guessed tokens too much.",
            "rest of the other sign": "the rest is what the draft gave too little of: p - q.",
            "everything kept": "a guess that the model finds unlikely must sometimes be refused.",
        },
    ),
)
