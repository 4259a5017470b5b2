"""Declaration of the Byte Latent Transformer."""

import numpy_ref.patching.blt as numpy_blt
import torch_impl.patching.blt as torch_blt
from parity_tests.components.block import KERNELS
from parity_tests.components.byte_stack import parameters, short, small_config
from parity_tests.harness.declaration import Bug, Component


def draw(source):
    config, tokens = small_config(source, "blt"), short(source)
    starts = source.rng.random((len(tokens), tokens.shape[1] + 1)) < source.choice(0.2, 0.5, 1.0)
    starts[:, :2] = True
    counts = starts[:, :-1].sum(1)
    source.event("rows with fewer patches", bool(counts.min() < counts.max()))
    source.event("the last patch may go on", bool((~starts[:, -1]).any()) and tokens.shape[1] > 1)
    source.event("long patches", bool((counts < tokens.shape[1] - 1).any()))
    return source.case({"tokens": tokens, "params": parameters(source, config), "starts": starts}, config=config)


BLT = Component(
    name="blt",
    numpy=numpy_blt.blt,
    torch=torch_blt.blt,
    draw=draw,
    call=lambda function, a: function(a["tokens"], a["params"], a["config"], a["starts"]),
    differentiable=("params",),
    kernels=KERNELS,
    dtypes=("float64",),  # which byte is the largest of its patch: in fewer digits it may be another one
    events=(
        "n-grams", "no n-grams", "window", "one byte", "rows with fewer patches", "the last patch may go on", "long patches",
    ),
    weight=8,
    compiles=False,
    bugs=(
        Bug("bytes read the patch that they are in", "numpy", "spread_vjp = unpool_attention(h, g.reshape(slices), complete,", "spread_vjp = unpool_attention(h, g.reshape(slices), ids,", dtype="float64"),
        Bug("the maximum without a gradient", "numpy", " + max_vjp(dlargest)", "", dtype="float64"),
        Bug("the bytes that patches look at without a gradient", "numpy", "dh + dh_gather +", "dh +", dtype="float64"),
        Bug("the decoder does not see the bytes", "numpy", "dh + dh_gather", "dh_gather", dtype="float64"),
        Bug("the global model's norm left out", "numpy", "unpool_attention(h, g.reshape(slices)", "unpool_attention(h, seen.reshape(slices)", dtype="float64"),
        Bug("two widths mixed", "numpy", '(parts | {"encoder": encoder_grads})', '({"encoder": encoder_grads} | {k: {n: 2 * v for n, v in g.items()} if k == "gather" else g for k, g in parts.items()})', dtype="float64"),
        Bug("patches of the byte to come", "torch", "unpool_attention(h, x, complete_ids(starts),", "unpool_attention(h, x, (complete_ids(starts) + 1).clamp(max=count - 1),", dtype="float64"),
        Bug("the global model passed over", "torch", 'x = stack(x, with_prefix(params, "global"), config.stack("global"))', 'x = x + 0 * stack(x, with_prefix(params, "global"), config.stack("global"))', dtype="float64"),
        Bug("no pooling", "torch", "pool_attention(slices, h, ids,", "pool_attention(0 * slices, h, ids,", dtype="float64"),
        Bug("n-grams left out", "torch", "stack(byte_embedding(tokens, params),", "stack(byte_embedding(tokens, {k: v for k, v in params.items() if 'ngrams' not in k}),", dtype="float64"),
    ),
)  # fmt: skip

COMPONENTS = (BLT,)
