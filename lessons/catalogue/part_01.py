"""Exercises of lesson 1: the transformer, from one matrix product to attention."""

from dataclasses import replace


from lessons.exercise import Exercise
from parity_tests.components.attention import ATTENTION, CAUSAL_MASK
from parity_tests.components.block import BLOCK
from parity_tests.components.embedding import EMBEDDING
from parity_tests.components.feed_forward import FEED_FORWARD, parameters
from parity_tests.components.linear import LINEAR
from parity_tests.components.norms import LAYER_NORM
from parity_tests.components.positions import SINUSOIDAL
from parity_tests.components.softmax import SOFTMAX
from parity_tests.harness.declaration import Bug

KIND = ("one", "small", "sixteen", "ties", "constant", "zero")  # magnitudes that every honest formula survives


def draw_softmax(source):
    return source.case({"x": source.array("x", (*source.leading(), source.size(17)), (*KIND, "above exp", "above exp"))})


def draw_attention(source):
    """Heads, queries, keys and values, causal or not: no masks, no groups."""
    heads, keys, width = source.integer(1, 3), source.size(9), source.size(9)
    queries = source.integer(1, keys)
    arrays = {
        "query": source.array("query", (heads, queries, width), KIND),
        "key": source.array("key", (heads, keys, width), KIND),
        "value": source.array("value", (heads, keys, source.size(9)), KIND),
    }
    return source.case(arrays, causal=source.flag())


def draw_feed_forward(source):
    width, hidden = source.size(9), source.size(9)
    params = parameters(source.rng, width, hidden, True, source.choice(0.1, 1.0, 4.0), "relu")
    return source.case({"x": source.array("x", (*source.leading(), width), KIND), "params": params}, activation="relu")


def few(source):
    """Layer norms of ordinary numbers, small enough to look at."""
    width = source.size(9)
    arrays = {
        "x": source.array("x", (*source.leading(), width), (*KIND, "offset")),
        "weight": source.weight("weight", (width,)),
        "bias": source.weight("bias", (width,)),
    }
    return source.case(arrays, eps=source.choice(1e-5, 1e-2))


EXERCISES = (
    Exercise(
        name="01_linear",
        title="The backward pass of a matrix product",
        component=LINEAR,
        minutes=15,
        hints=(
            "Write one entry with its indices: y[n, o] = sum over i of x[n, i] W[o, i], plus b[o]. What is dy[n, o]/dx[n, i]?",
            "dL/dx[n, i] = sum over o of dy[n, o] W[o, i]: that is a matrix product, and the shapes say which.",
            "dW must have the shape (o, i) of W, and be a sum over the rows n: flatten the leading axes, then dy_rows.T @ x_rows.",
            "Every row added the same bias, so dbias is the sum of dy over all rows. Without a bias it is None.",
        ),
        mistakes={
            "dbias averaged": "dbias is a sum over the rows, not a mean: every row used the bias once, and all of them push on it.",
            "dbias of the last row alone": "dbias must collect every row, not only one of them.",
            "dweight transposed": "dweight has the shape of the weight, but its entries stand where their transpose belongs.",
            Bug("leading axes not flattened", "numpy", "dy_rows.T @ rows", "dy_rows.T @ rows / len(rows)"): (
                "dweight was divided by the number of rows: the mean over a batch belongs to the loss, not to the layer."
            ),
            "dx of the transposed weight": "dx takes dy through the weight, not through its transpose: dx[n, i] = sum_o dy[n, o] W[o, i].",
        },
    ),
    Exercise(
        name="01_softmax",
        title="Softmax that cannot overflow, and its backward pass",
        component=replace(SOFTMAX, draw=draw_softmax),
        minutes=20,
        hints=(
            "exp(800) is infinite in float64. Subtracting the same number from every score changes no probability: which number?",
            "Subtract the largest score of each row (axis=-1, keepdims=True), take exp, divide by the sum of the row.",
            "dy_i/dx_j = y_i ([i = j] - y_j). Multiply by the incoming dy_i and sum over i: two terms are left.",
            "dx = y * (dy - sum(dy * y)), where the sum runs over the last axis and keeps it.",
        ),
        mistakes={
            "maximum not subtracted": "exp overflows for scores of a few hundred, and inf / inf is NaN: subtract each row's largest score first.",
            "wrong axis": "the weights must sum to one over the last axis; another axis was summed.",
            "delta dropped in the gradient": "raising one score lowers all other weights: the term -y * sum(dy * y) is missing.",
            "mean for sum in the gradient": "the second term takes the sum of dy * y over the row, not its mean.",
            "delta without the weights": "the second term weighs each dy_i by y_i before it sums them.",
        },
    ),
    Exercise(
        name="01_embedding",
        title="The gradient of looking something up",
        component=EMBEDDING,
        minutes=10,
        hints=(
            "Looking up row v is a product with a one-hot row. Its transpose puts dy back into row v.",
            "A token that occurs five times gets five gradients, and they add up. What does dweight[tokens] += dy do then?",
            "NumPy writes repeated indices once only; np.add.at(dweight, ids, rows) adds every one of them.",
            "Forward multiplies by the scale, so backward does too.",
        ),
        mistakes={
            "a repeated token keeps one gradient": (
                "a token that occurs several times kept one of its gradients only. `dweight[tokens] += dy` does that: NumPy "
                "writes each index once. np.add.at adds all of them."
            ),
            "scale forgotten in the gradient": "the forward pass multiplies by the scale, so the gradient must be multiplied by it as well.",
            Bug("a mean over the occurrences", "numpy", "return dweight * scale", "return dweight * scale / np.maximum(1, np.bincount(tokens.reshape(-1), minlength=len(weight)))[:, None]"): (
                "the gradients of a token that occurs several times add up; here they were averaged."
            ),
            "ids off by one": "another row of the table was looked up: ids count from 0.",
        },
    ),
    Exercise(
        name="01_sinusoidal_positions",
        title="Where a token stands, as sines and cosines",
        component=SINUSOIDAL,
        minutes=15,
        hints=(
            "There are width / 2 wavelengths: 10000^(0/width), 10000^(2/width), ... up to 10000^((width-2)/width).",
            "angle = positions[..., None] / wavelengths has the shape (..., width / 2), in float64.",
            "Feature 2i is the sine and feature 2i + 1 the cosine of the same angle: stack them on a new last axis, then reshape.",
        ),
        mistakes={
            "cosine first": "sines belong at even features and cosines at odd ones; here they are exchanged.",
            "halves instead of pairs": "sine and cosine of an angle must stand side by side (2i, 2i + 1); here all sines come first.",
            "base 1000": "the wavelengths go up to 10000^((width - 2) / width): the base is 10000.",
            "positions from 1": "positions count from 0: the first token has sin(0) = 0 and cos(0) = 1.",
            "exponent per feature, not per pair": "the exponent of pair i is 2i / width: pairs, not features, are counted twice as fast.",
        },
    ),
    Exercise(
        name="01_causal_mask",
        title="Nobody sees the future",
        component=CAUSAL_MASK,
        minutes=10,
        hints=(
            "With as many keys as queries it is a lower triangle, diagonal included.",
            "With a cache there are more keys than queries, and the last query stands at the last key. Which keys does query i see?",
            "Query i sees the keys j <= i + keys - queries. np.tri has an argument for exactly that.",
        ),
        mistakes={
            "aligned at the start": "with more keys than queries the *last* query stands at the last key; the mask was aligned at the first.",
            "itself hidden": "a query sees its own position; the diagonal is missing.",
            Bug("one step ahead", "numpy", "keys - queries,", "keys - queries + 1,"): "a query sees one key of its future.",
            Bug("upside down", "numpy", "np.tri(queries, keys, keys - queries, dtype=bool)", "~np.tri(queries, keys, keys - queries, dtype=bool)"): (
                "True means that a query may see a key; here True marks what is hidden."
            ),
        },
    ),
    Exercise(
        name="01_layer_norm",
        title="Layer norm, forward",
        component=replace(LAYER_NORM, draw=few),
        minutes=10,
        value_only=True,
        hints=(
            "Centre first: c = x - mean(x) over the last axis, keepdims=True.",
            "The variance is mean(c * c): over d numbers, not d - 1. It takes two passes: mean(x^2) - mean(x)^2 cancels.",
            "r = sqrt(variance + eps): eps stands inside the root. Then c / r * weight + bias.",
        ),
        mistakes={
            "deviation over d - 1": "the variance is a mean over all d features; it was divided by d - 1, as for samples.",
            "eps outside the root": "eps belongs inside the square root: sqrt(variance + eps).",
            "variance in one pass": (
                "mean(x^2) - mean(x)^2 subtracts two large numbers that are nearly equal, and for a large mean nothing is left. "
                "Centre first, then take the mean of the squares."
            ),
            "eps ignored": "eps is missing: for a row of equal numbers the deviation is 0, and the division blows up.",
            "1 + weight": "the weight multiplies what was normalised; it is not added to one.",
            Bug("not centred", "numpy", "n = centred / r", "n = x / r"): "the mean was not subtracted from what is divided by r.",
        },
    ),
    Exercise(
        name="01_layer_norm_backward",
        title="Layer norm, backward",
        component=replace(LAYER_NORM, draw=few),
        minutes=30,
        hints=(
            "Go backwards through y = n * weight + bias first: dweight and dbias are sums over all rows, and dn = dy * weight.",
            "n = c / r depends on x in two ways: through c, and through r. Through c alone dx would be dn / r.",
            "r grows with x by dr/dc = n / d, and n shrinks with r: that adds -n * mean(dn * n) inside.",
            "The centring subtracts the mean of x, so the gradient loses its mean: dx = (dn - mean(dn) - n * mean(dn * n)) / r.",
        ),
        mistakes={
            "weight forgotten in dx": "dx starts from dn = dy * weight; the weight is missing.",
            "mean of dn forgotten in dx": "the centring takes the mean out of x, so its backward pass takes the mean out of the gradient: -mean(dn) is missing.",
            "slope term forgotten in dx": "r depends on x, too: the term -n * mean(dn * n) is missing.",
            "dweight without n": "y = n * weight, so dweight is the sum of dy * n; the normalised n is missing.",
            "dbias averaged over rows": "dbias is a sum over the rows, not a mean.",
            Bug("not divided by r", "numpy", "dx /= r", "dx = dx * 1"): "dn/dx has a factor 1 / r, which is missing.",
        },
    ),
    Exercise(
        name="01_feed_forward",
        title="Chaining backward passes: the feed-forward network",
        component=replace(FEED_FORWARD, draw=draw_feed_forward),
        minutes=15,
        hints=(
            "Three components are given, each with its vjp. The forward pass is up, activation, down.",
            "Backward is the same path in reverse: down_vjp(dy) gives dbent and two gradients, activation_vjp takes dbent to dhidden.",
            "up_vjp(dhidden) gives dx and two gradients. Return dx and a dict with the keys of params, in their order.",
        ),
        mistakes={
            "activation left out of the backward": "the gradient must pass through the activation on its way from down to up.",
            "activation left out": "the activation stands between the two linear maps; without it both are one.",
            "up and down biases mixed": "the gradient of down.bias must come out of down_vjp(dy), with the whole dy.",
            "activation after the second map": "the activation belongs between the two maps, not after the second one.",
        },
    ),
    Exercise(
        name="01_attention",
        title="Attention, forward and backward",
        component=replace(ATTENTION, draw=draw_attention),
        minutes=45,
        hints=(
            "Scores are query @ key^T / sqrt(d); hidden ones become -inf before the softmax; then weights @ value.",
            "A product C = A B has dA = dC B^T and dB = A^T dC. Apply it to Y = P V: dP = dY V^T and dV = P^T dY.",
            "softmax_vjp(dP) gives dS. Hidden scores have weight 0, so their gradient is 0 by itself.",
            "S = (Q / sqrt(d)) K^T: dQ = dS K / sqrt(d) and dK = dS^T Q / sqrt(d). The scale appears in both.",
        ),
        mistakes={
            "scale 1 / d": "scores are divided by the square root of d, so that they keep a deviation of one; here by d itself.",
            "scores not scaled": "the scores must be divided by sqrt(d).",
            "causal mask aligned at the start": "with more keys than queries the last query stands at the last key.",
            "a query does not see itself": "a query sees its own position, too.",
            "hidden scores 0, not -inf": "a score of 0 still gets weight exp(0); hidden scores must be -inf before the softmax.",
            "softmax over the queries": "every query spreads its attention over the keys: the softmax goes over the last axis.",
            "delta dropped in the softmax's backward": "the backward pass of the softmax has a second term: y * (dy - sum(dy * y)).",
            "dquery not scaled": "the queries were scaled in the forward pass, so dquery is scaled as well.",
            "dkey not scaled": "the keys met scaled queries: dkey = dS^T (Q / sqrt(d)).",
            "dkey scaled twice": "the scale is in dkey twice; the scaled queries bring it already.",
        },
    ),
    Exercise(
        name="01_block",
        title="The residual stream of a pre-norm block",
        component=BLOCK,
        minutes=30,
        cases=12,
        keep=lambda case: case.static["config"].norm_position == "pre" and not case.static["config"].experts,
        hints=(
            "Two branches, one after the other: x = x + attention(norm(x)), then x = x + feed_forward(norm(x)).",
            "In reverse: the sum hands dy to the stream and to the branch. What comes back through the branch is added to the stream's.",
            "branch: dx = dy + norm_vjp(function_vjp(drop_vjp(dy))). The stream's own gradient passes untouched.",
            "Each branch has its own dropout mask: keep[0] for attention, keep[1] for the feed-forward network.",
        ),
        mistakes={
            "residual around the normalised stream": "the branch is added to x itself; here it was added to norm(x).",
            "gradient of the branch alone": "the residual sum hands dy to both: the stream's own gradient is missing.",
            "dropout left out of the backward": "dropped features get no gradient: the backward pass goes through dropout, too.",
            "one dropout mask for both branches": "each branch has a dropout mask of its own.",
        },
    ),
)
