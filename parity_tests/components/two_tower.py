"""Declarations of the two-tower diffusion model: its mask, attention, block, and the denoiser."""

import numpy as np

import numpy_ref.concepts.two_tower as numpy_tower
import torch_impl.concepts.two_tower as torch_tower
from numpy_ref.concepts.config import ConceptConfig, denoiser_block_shapes, denoiser_shapes
from parity_tests.components.base_lcm import small_concepts
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.harness.declaration import Bug, Case, Component

PLAIN = ("one", "small", "sixteen")


def draw_keep(source, batch, length):
    keep = source.rng.random((batch, length)) < source.choice(0.5, 1.0)
    source.event("places without a context", bool((~keep).any()))
    return keep


def draw_mask(source):
    return source.case({"keep": draw_keep(source, source.integer(1, 3), source.size(17))})


TOWER_MASK = Component(
    name="tower_mask",
    numpy=numpy_tower.tower_mask,
    torch=torch_tower.tower_mask,
    draw=draw_mask,
    dtypes=("float64",),
    exact=True,
    events=("places without a context",),
    compiles=False,
    bugs=(
        Bug("the sentence to come is seen", "numpy", "np.tril(np.ones((length, length), bool))", "np.tril(np.ones((length, length), bool), 1)"),
        Bug("the last sentence is not seen", "numpy", "np.tril(np.ones((length, length), bool))", "np.tril(np.ones((length, length), bool), -1)"),
        Bug("the context is never dropped", "numpy", "& keep[..., None]", "& (keep | True)[..., None]"),
        Bug("sentences dropped, not places", "numpy", "keep[..., None]", "keep[:, None]"),
        Bug("the empty context may be hidden", "torch", "F.pad(seen, (1, 0), value=True)", "F.pad(seen, (1, 0), value=False)"),
        Bug("the empty context comes last", "torch", "(1, 0), value", "(0, 1), value"),
    ),
)  # fmt: skip


def draw_places(source, config):
    """Noisy places that look at a context: as many as it is long, or one."""
    batch, memory = source.integer(1, 2), source.integer(1, 6)
    queries = source.choice(memory, 1)
    mask = numpy_tower.tower_mask(draw_keep(source, batch, memory))[:, :, -queries:]
    source.event("one place", queries < memory)
    return batch, queries, memory, mask


def draw_attention(source):
    config = small_concepts(source, "diffusion")
    d = config.width
    batch, queries, memory, mask = draw_places(source, config)
    shapes = {"query.weight": (d, d), "key_value.weight": (2 * d, d), "output.weight": (d, d)}
    rows = source.array("memory", (batch, memory + 1, d), PLAIN)
    rows[:, 0] = 0
    source.layouts["memory"] = "contiguous"
    arrays = {"x": source.array("x", (batch, queries, d), PLAIN), "memory": rows, "mask": mask}
    source.event("two heads", config.heads == 2)
    return source.case(arrays | {"params": random_parameters(source.rng, shapes)}, config=config)


CROSS_ATTENTION = Component(
    name="cross_attention",
    numpy=numpy_tower.cross_attention,
    torch=torch_tower.cross_attention,
    draw=draw_attention,
    call=lambda function, a: function(a["x"], a["memory"], a["params"], a["config"], a["mask"]),
    differentiable=("x", "memory", "params"),
    kernels=KERNELS,
    events=("places without a context", "one place", "two heads"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("keys and values exchanged", "numpy", "query, key, value = (_heads", "query, value, key = (_heads"),
        Bug("everything is seen", "numpy", "(query, key, value, mask)", "(query, key, value, None)"),
        Bug("keys' gradient not turned back", "numpy", "_joined(key_turn_vjp(dkey))", "_joined(dkey)"),
        Bug("queries stand at the beginning", "numpy", "cos[-x.shape[1] :], sin[-x.shape[1] :]", "cos[: x.shape[1]], sin[: x.shape[1]]"),
        Bug("queries turned, keys not", "numpy", "rotary(key, cos, sin)", "rotary(key, cos * 0 + 1, sin * 0)"),
        Bug("a residual of its own", "numpy", "return y, vjp", "return x + y, vjp"),
        Bug("heads side by side in each feature", "numpy", "np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)", "np.moveaxis(x.reshape(*x.shape[:2], -1, heads), 3, 1)", "_heads"),
        Bug("values first", "torch", "key, value = linear", "value, key = linear", "_keys"),
        Bug("no places", "torch", "return rotary(key, cos, sin), value", "return key, value", "_keys"),
        Bug("everything is seen in Torch", "torch", "(query, key, value, mask)", "(query, key, value)"),
        Bug("memory without a gradient", "torch", "linear(memory,", "linear(memory.detach(),", "_keys"),
    ),
)  # fmt: skip


def draw_block(source):
    config = small_concepts(source, "diffusion")
    batch, queries, memory, mask = draw_places(source, config)
    rows = source.rng.standard_normal((batch, memory + 1, config.width))
    rows[:, 0] = 0
    arrays = {name: source.array(name, (batch, queries, config.width), PLAIN) for name in ("x", "step")}
    params = random_parameters(source.rng, denoiser_block_shapes(config))
    return source.case(arrays | {"memory": rows, "mask": mask, "params": params}, config=config)


BLOCK = Component(
    name="denoiser_block",
    numpy=numpy_tower.denoiser_block,
    torch=torch_tower.denoiser_block,
    draw=draw_block,
    differentiable=("x", "step", "memory", "params"),
    kernels=KERNELS,
    events=("places without a context", "one place"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("both branches modulated alike", "numpy", 'params["feed_forward_norm.weight"], parts[3:])', 'params["feed_forward_norm.weight"], parts[:3])'),
        Bug("shift and scale exchanged", "numpy", "shift, scale, gate = parts", "scale, shift, gate = parts", "_modulated"),
        Bug("gate forgotten", "numpy", "gated(x, branch, gate)", "gated(x, branch, np.ones_like(gate))", "_modulated"),
        Bug("not normed", "numpy", "modulate(normed, shift, scale)", "modulate(x, shift, scale)", "_modulated"),
        Bug("modulation of the branches exchanged in the backward", "numpy", "[*dfirst, *dsecond]", "[*dsecond, *dfirst]"),
        Bug("no residual in the backward", "numpy", "return dx + dx_branch, (", "return dx_branch, (", "_modulated"),
        Bug("memory without a gradient", "torch", "cross_attention(inner, memory,", "cross_attention(inner, memory.detach(),"),
        Bug("gates exchanged", "torch", "shift, scale, gate, shift_2, scale_2, gate_2 =", "shift, scale, gate_2, shift_2, scale_2, gate ="),
        Bug("step without a gradient", "torch", "linear(step,", "linear(step.detach(),"),
    ),
)  # fmt: skip


def draw_denoise(source):
    config = small_concepts(source, "diffusion", denoiser_layers=source.integer(1, 2))
    batch, queries, memory, mask = draw_places(source, config)
    source.event("two blocks", config.denoiser_layers == 2)
    arrays = {
        "noisy": source.array("noisy", (batch, queries, config.concept), PLAIN),
        "times": source.rng.integers(0, config.steps, (batch, queries)),
        "context": source.array("context", (batch, memory, config.width), ("one", "small")),
        "mask": mask,
        "params": random_parameters(source.rng, denoiser_shapes(config)),
    }
    return source.case(arrays, config=config)


def showcase(rng):
    config, batch = ConceptConfig(kind="diffusion"), 32
    length = config.context
    arrays = {
        "noisy": rng.standard_normal((batch, length, config.concept)), "times": rng.integers(0, config.steps, (batch, length)),
        "context": rng.standard_normal((batch, length, config.width)), "mask": numpy_tower.tower_mask(np.ones((batch, length), bool)),
        "params": random_parameters(rng, denoiser_shapes(config)),
    }  # fmt: skip
    return Case(arrays, {"config": config})


def flops(case):
    config, (batch, length, _) = case.static["config"], case.arrays["noisy"].shape
    weights = sum(p.size for p in case.arrays["params"].values() if p.ndim == 2)
    return batch * length * (2 * weights + 4 * config.width * config.denoiser_layers * (case.arrays["context"].shape[1] + 1))


DENOISE = Component(
    name="denoise",
    numpy=numpy_tower.denoise,
    torch=torch_tower.denoise,
    draw=draw_denoise,
    differentiable=("context", "params"),
    kernels=KERNELS,
    events=("places without a context", "one place", "two blocks"),
    weight=8,
    shapes={"showcase": showcase},
    compiles=False,
    flops=flops,
    bytes=lambda case, size: size * sum(p.size for p in case.arrays["params"].values()),
    bugs=(
        Bug("no empty context", "numpy", "np.concatenate([np.zeros_like(context[:, :1]), context], axis=1)", "np.concatenate([context[:, :1], context], axis=1)"),
        Bug("the time is not heard", "numpy", "time_features(times,", "time_features(0 * times,"),
        Bug("step from the last block alone", "numpy", "dstep + dstep_layer", "dstep_layer", needs=("two blocks",)),
        Bug("context from the last block alone", "numpy", "dmemory + dmemory_layer", "dmemory_layer", needs=("two blocks",)),
        Bug("the empty context's gradient goes to the first sentence", "numpy", "dmemory[:, 1:].copy()", "dmemory[:, :-1].copy()"),
        Bug("one bend less", "numpy", "step, step_vjp = silu(second)", "step, step_vjp = second, lambda dy: dy"),
        Bug("the empty context comes last", "torch", "F.pad(context, (0, 0, 1, 0))", "F.pad(context, (0, 0, 0, 1))"),
        Bug("every layer reads block 0", "torch", 'f"denoiser.{layer}"', '"denoiser.0"', needs=("two blocks",)),
        Bug("no noise", "torch", "linear(noisy,", "linear(0 * noisy,"),
    ),
)  # fmt: skip

COMPONENTS = (TOWER_MASK, CROSS_ATTENTION, BLOCK, DENOISE)
