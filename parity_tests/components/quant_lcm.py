"""Declaration of the scores of codes."""

import numpy_ref.concepts.quant_lcm as numpy_quant
import torch_impl.concepts.quant_lcm as torch_quant
from numpy_ref.concepts.config import code_shapes
from parity_tests.components.base_lcm import small_concepts
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.harness.declaration import Bug, Component

PLAIN = ("one", "small", "sixteen")


def draw(source):
    kind = source.choice("quantised", "residual")
    source.event(kind)
    config = small_concepts(source, kind, codebooks=source.integer(1, 4), entries=source.size(9))
    batch, length = source.integer(1, 2), source.integer(1, 5)
    first = source.integer(0, config.codebooks - 1)
    count = source.integer(1, config.codebooks - first)
    source.event("not from the first codebook", first > 0)
    source.event("several codebooks", count > 1)
    arrays = {
        "context": source.array("context", (batch, length, config.width), PLAIN),
        "partial": source.array("partial", (batch, length, count, config.concept), PLAIN),
        "params": random_parameters(source.rng, code_shapes(config)),
    }
    return source.case(arrays, config=config, first=first)


CODE_LOGITS = Component(
    name="code_logits",
    numpy=numpy_quant.code_logits,
    torch=torch_quant.code_logits,
    draw=draw,
    differentiable=("context", "params"),
    kernels=KERNELS,
    events=("not from the first codebook", "several codebooks", "quantised", "residual"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("always from the first codebook", "numpy", "slice(first, first + partial.shape[2])", "slice(0, partial.shape[2])", needs=("not from the first codebook",)),
        Bug("the codes so far are not heard", "numpy", "context[:, :, None] + said + params", "context[:, :, None] + 0 * said + params"),
        Bug("no residual", "numpy", "rms_norm(u + thought,", "rms_norm(thought,"),
        Bug("no residual in the backward", "numpy", "du = du + du_norm", "du = du_norm"),
        Bug("context from the last codebook alone", "numpy", "np.sum(du, axis=2), {", "du[:, :, -1].copy(), {", needs=("several codebooks",)),
        Bug("codebooks told apart by the last sentence", "numpy", "np.sum(du, axis=(0, 1))", "du[-1, -1]"),
        Bug("codebooks not told apart", "torch", "[first : first + partial.shape[2]]", "[:1]"),
        Bug("not normed", "torch", 'feed_forward(rms_norm(x, params["head_norm.weight"]),', 'feed_forward(x * params["head_norm.weight"],'),
        Bug("no context", "torch", "context[:, :, None] +", "0 * context[:, :, None] +"),
    ),
)  # fmt: skip

COMPONENTS = (CODE_LOGITS,)
