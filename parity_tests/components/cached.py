"""Declaration of cached_transformer: one chunk of a text after another."""

import numpy as np

import numpy_ref.inference.cached as numpy_cached
import numpy_ref.model.kv_cache as numpy_cache
import torch_impl.inference.cached as torch_cached
from numpy_ref.config import NORM_POSITIONS, POSITIONS, parameter_shapes
from parity_tests.components.block import KERNELS, draw_config, random_parameters
from parity_tests.components.kv_cache import unchanged
from parity_tests.components.multi_head_attention import EVENTS
from parity_tests.harness.declaration import Bug, Component


def draw(source):
    positions = source.choice(*POSITIONS)
    size = {"vocab_size": 7, "context": 16, "layers": source.choice(2, 1), "dropout": 0.0}
    caps = {"logit_softcap": source.choice(0.0, 3.0), "embedding_scale": source.choice(1.0, 3.0)}
    config = draw_config(source, positions=positions, tie_embeddings=source.flag(), **caps, **size)
    params = random_parameters(source.rng, parameter_shapes(config))
    rows, before, new = source.integer(1, 3), source.choice(3, 0, 6), source.choice(3, 1, 2)
    cache = numpy_cache.init_cache(config, rows, 16, np.float64)
    if before:
        counts = source.rng.integers(0, before + 1, rows)
        tokens = source.rng.integers(0, 7, (rows, before))
        _, cache = numpy_cached.cached_transformer(tokens, params, config, cache, counts)
    counts = source.choice(None, source.rng.integers(1, new + 1, rows))
    last = source.flag() or counts is not None
    for event, happens in {
        "empty cache": before == 0, "one token": new == 1, "chunk": new > 1, "padding": counts is not None,
        "last": last, "all logits": not last, "capped logits": config.logit_softcap > 0,
        "alternating": config.full_attention_every == 2 and config.layers == 2 and bool((cache["length"] > config.window).any()),
        "ragged": len(set(cache["length"].tolist())) > 1,
    }.items():  # fmt: skip
        source.event(event, happens)
    source.event(positions)
    arrays = {"tokens": source.tokens((rows, new), 7), "params": params, "cache": cache, "counts": counts}
    return source.case(arrays, config=config, last=last)


CACHED_TRANSFORMER = Component(
    name="cached_transformer",
    numpy=numpy_cached.cached_transformer,
    torch=torch_cached.cached_transformer,
    draw=draw,
    call=unchanged,
    kernels=KERNELS,
    fixed=(),
    compiles=False,
    weight=6,
    events=(
        *POSITIONS, *NORM_POSITIONS, *EVENTS, "empty cache", "one token", "chunk", "padding", "last", "all logits",
        "capped logits", "ragged", "experts",
    ),
    bugs=(
        Bug("positions from 0 in every chunk", "numpy", 'cache["length"][:, None] + place', '0 * cache["length"][:, None] + place'),
        Bug("chunk counted twice", "numpy", 'cache["length"] + counts', 'cache["length"] + 2 * counts'),
        Bug("padding counted", "numpy", 'cache["length"] + counts', 'cache["length"] + tokens.shape[1]', needs=("padding",)),
        Bug("padding written", "numpy", "place < counts[:, None]", "place < tokens.shape[1]", needs=("padding", "chunk")),
        Bug("every layer like the first", "numpy", "own, config, layer, phases,", "own, config, 0, phases,", needs=("alternating",)),
        Bug("last column, not last token", "numpy", "np.maximum(counts, 1) - 1", "-1", needs=("padding", "chunk")),
        Bug("RoPE left out", "torch", 'if config.positions == "rope" else None', "if False else None", needs=("rope",)),
        Bug("positions of the longest row for all", "torch", "positions = start[:, None] + place", "positions = start.amax() + place", needs=("ragged",)),
        Bug("final norm of the stream before", "torch", "return head(x, params, config),", "return head(1.01 * x + 0.1, params, config),"),
        Bug("pre for post", "torch", 'config.norm_position == "pre"', 'config.norm_position != "pre"', "_cached_block"),
    ),
)  # fmt: skip

COMPONENTS = (CACHED_TRANSFORMER,)
