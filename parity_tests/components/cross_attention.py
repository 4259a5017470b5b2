"""Declarations of pooling and of the attention between bytes and patches."""

import numpy as np

import numpy_ref.patching.cross_attention as numpy_cross
import torch_impl.patching.cross_attention as torch_cross
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.harness.declaration import Bug, Component

DISTINCT = ("one", "small", "sixteen", "heavy", "offset", "tiny")  # values that hardly ever tie


def draw_ids(source, batch, length):
    """The patches of some bytes, in order; perhaps more patches than have bytes."""
    starts = source.rng.random((batch, length)) < source.choice(0.2, 0.5, 1.0)
    starts[:, 0] = True
    ids = np.cumsum(starts, axis=1) - 1
    extra = source.choice(0, 0, 2)
    rows = ids.max(1)
    source.event("patches without bytes", extra > 0 or rows.min() < rows.max())
    source.event("a patch of several bytes", bool((np.diff(ids) == 0).any()))
    return ids, int(ids.max()) + 1 + extra


def draw_max(source):
    batch, length, width = source.integer(1, 3), source.size(17), source.size(9)
    ids, patches = draw_ids(source, batch, length)
    return source.case({"x": source.array("x", (batch, length, width), DISTINCT), "ids": ids}, patches=patches)


PATCH_MAX = Component(
    name="patch_max",
    numpy=numpy_cross.patch_max,
    torch=torch_cross.patch_max,
    draw=draw_max,
    differentiable=("x",),
    events=("patches without bytes", "a patch of several bytes", "heavy", "tiny"),
    compiles=False,
    bugs=(
        Bug("never below 0", "numpy", "-np.inf, shape", "0.0, shape"),
        Bug("the smallest", "numpy", "np.maximum.at(largest, rows, x)", "np.copyto(largest, np.inf); np.minimum.at(largest, rows, x); largest[largest == np.inf] = -np.inf"),
        Bug("the gradient to every byte of the patch", "numpy", "np.where(has, (dy", "np.where(True, (dy"),
        Bug("patches without bytes are below everything", "numpy", "np.where(largest.real == -np.inf, 0.0, largest)", "largest", needs=("patches without bytes",)),
        Bug("the buffer counts", "torch", "least = torch.finfo(x.dtype).min", "least = 0.0"),
        Bug("the mean", "torch", '"amax"', '"mean", include_self=False'),
    ),
)  # fmt: skip

SHAPES = {"query_norm.weight": 1, "key_norm.weight": 1, "query.weight": (1, 1), "key_value.weight": (2, 1), "output.weight": (1, 1)}


def draw_parameters(source, width):
    shapes = {name: (width,) if size == 1 else (size[0] * width, width) for name, size in SHAPES.items()}
    return random_parameters(source.rng, shapes)


def draw_attention(source, names):
    batch, length, slices = source.integer(1, 2), source.size(9), source.choice(1, 2, 3)
    width, heads = source.choice((4, 1), (4, 2), (8, 2))
    ids, patches = draw_ids(source, batch, length)
    source.event("several vectors a patch", slices > 1)
    source.event("two heads", heads == 2)
    plain = ("one", "small", "sixteen")
    of_bytes, of_patches = (batch, length, width), (batch, patches, slices, width)
    shapes = {"x": of_patches, "data": of_bytes} if "data" in names else {"x": of_bytes, "patches": of_patches}
    arrays = {name: source.array(name, shape, plain) for name, shape in shapes.items()}
    if "patches" in names:  # any patch, not only the byte's own
        ids = source.rng.integers(0, patches, ids.shape)
    return source.case(arrays | {"ids": ids, "params": draw_parameters(source, width)}, heads=heads)


def by_name(*names):
    return lambda function, arguments: function(*(arguments[name] for name in names))


ATTENTION_EVENTS = ("several vectors a patch", "two heads", "a patch of several bytes")
NORM_BUGS = (
    Bug("the residual twice", "numpy", "return x + y, vjp", "return 2 * x + y, vjp", "_attend"),
    Bug("no residual in the backward", "numpy", "return dy + dx, dmemory", "return dx, dmemory", "_attend"),
    Bug("keys for values", "numpy", "(stacked[..., :width], stacked[..., width:])", "(stacked[..., :width], stacked[..., :width])", "_attend"),
    Bug("gradients of keys and values exchanged", "numpy", "[dkey, dvalue]", "[dvalue, dkey]", "_attend"),
    Bug("the queries' norm for both", "numpy", 'rms_norm(memory, params["key_norm.weight"], EPS)', 'rms_norm(memory, params["query_norm.weight"], EPS)', "_attend"),
)  # fmt: skip

POOL = Component(
    name="pool_attention",
    numpy=numpy_cross.pool_attention,
    torch=torch_cross.pool_attention,
    draw=lambda source: draw_attention(source, ("data",)),
    call=by_name("x", "data", "ids", "params", "heads"),
    differentiable=("x", "data", "params"),
    kernels=KERNELS,
    events=(*ATTENTION_EVENTS, "patches without bytes"),
    weight=4,
    compiles=False,
    bugs=(
        *NORM_BUGS,
        Bug("a patch sees all bytes", "numpy", "ids[:, None, None, :] == patch[:, None]", "ids[:, None, None, :] == ids[:, None, None, :] + 0 * patch[:, None]"),
        Bug("vectors of a patch numbered the other way", "numpy", "np.repeat(np.arange(patches), slices)", "np.tile(np.arange(patches), slices)", needs=("several vectors a patch",)),
        Bug("softmax over all bytes", "torch", "weights / total.index_select(0, rows)", "weights / total.sum(0)", "_softmax_by_row"),
        Bug("texts share their patches", "torch", "ids + patches * torch.arange", "ids + 0 * torch.arange", "_rows"),
        Bug("not scaled", "torch", " / math.sqrt(key.shape[-1])", ""),
        Bug("no residual", "torch", "return x + linear(", "return linear("),
    ),
)  # fmt: skip

UNPOOL = Component(
    name="unpool_attention",
    numpy=numpy_cross.unpool_attention,
    torch=torch_cross.unpool_attention,
    draw=lambda source: draw_attention(source, ("patches",)),
    call=by_name("x", "patches", "ids", "params", "heads"),
    differentiable=("x", "patches", "params"),
    kernels=KERNELS,
    events=ATTENTION_EVENTS,
    weight=4,
    compiles=False,
    bugs=(
        *NORM_BUGS,
        Bug("a byte sees all patches up to its own", "numpy", "ids[:, None, :, None] == patch", "ids[:, None, :, None] >= patch"),
        Bug("not scaled", "torch", " / math.sqrt(key.shape[-1])", ""),
        Bug("keys and values exchanged", "torch", "key, value = stacked.unbind(2)", "value, key = stacked.unbind(2)"),
        Bug("the mean of the vectors", "torch", "(weights[..., None] * value).sum(1)", "value.mean(1)", needs=("several vectors a patch",)),
        Bug("texts share their patches", "torch", "ids + patches * torch.arange", "ids + 0 * torch.arange", "_rows"),
    ),
)  # fmt: skip

COMPONENTS = (PATCH_MAX, POOL, UNPOOL)
