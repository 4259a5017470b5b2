"""Declaration of multi_head_attention."""

import numpy as np

import numpy_ref.model.multi_head_attention as numpy_attention
import torch_impl.model.multi_head_attention as torch_attention
from numpy_ref.config import ModelConfig, parameter_shapes
from numpy_ref.model.positions import rope_phases
from parity_tests.components.attention import ATTENTION
from parity_tests.components.norms import RMS_NORM
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MASKS, attention_mask


def parameters(rng, config, scale=1.0):
    """The attention's part of a block: weights that keep the size of their input, everything random."""
    start = "blocks.0.attention."
    shapes = {n.removeprefix(start): shape for n, shape in parameter_shapes(config).items() if n.startswith(start)}
    return {
        name: scale * rng.standard_normal(shape) / np.sqrt(shape[-1])
        if len(shape) > 1
        else rng.uniform(0.3, 1.5, shape) * (1 if "norm" in name else scale)
        for name, shape in shapes.items()
    }


def documents(rng, batch, length):
    """Ids of documents that share rows, and padding on either side."""
    ids = np.sort(rng.integers(0, 3, (batch, length)), axis=1)
    ids[0, : rng.integers(0, length + 1)] = -1
    return ids


def draw_attention_config(source, **fixed):
    """Everything about attention that a config can say."""
    group, shared, features = source.choice(1, 2, 3), source.integer(1, 3), 2 * source.choice(1, 2, 4)
    heads = group * shared
    own_width = source.flag()
    window = source.choice(0, 3, 0, 1, 8)
    positions = source.choice("rope", "alibi", "none")
    choices = {
        "width": 2 * source.integer(2, 6) if own_width else heads * features,
        "heads": heads,
        "kv_heads": source.choice(shared, 0) if group == 1 else shared,
        "head_width": features if own_width else 0,
        "qk_norm": source.flag(),
        "attention_softcap": source.choice(0.0, 0.0, 3.0),
        "attention_curvature": 0.0 if source.seed % 4 else 0.5,  # not a draw, which would change all others
        "window": window,
        "full_attention_every": source.choice(2, 0) if window else 0,
        "sinks": source.choice(0, 2) if window else 0,
        "positions": positions,
        "attention_bias": source.flag(),
        "norm_eps": source.choice(1e-5, 1e-2),
    }
    positions = fixed.get("positions", positions)
    if positions == "rope":
        scalings = ("none", "linear", "llama3", "yarn") + (("ntk",) if features > 2 else ())
        choices |= {
            "rope_base": source.choice(10000.0, 100.0),
            "rope_fraction": 0.5 if features % 4 == 0 and features > 4 and source.flag() else 1.0,
            "rope_interleaved": source.flag(),
            "rope_scaling": source.choice(*scalings),
            "rope_factor": 4.0,
            "rope_original_context": 16,
        }
    choices |= fixed
    if choices["attention_curvature"]:
        choices["attention_softcap"] = 0.0
    if not choices.get("window"):
        choices |= {"full_attention_every": 0, "sinks": 0}
    config = ModelConfig(**choices)
    for event, happens in {
        "grouped": group > 1 and shared > 1, "one key head": group > 1 and shared == 1, "own head width": own_width,
        "qk norm": config.qk_norm, "capped scores": config.attention_softcap > 0,
        "hyperbolic": config.attention_curvature > 0, "window": config.window > 0,
        "sinks": config.sinks > 0, "interleaved": config.positions == "rope" and config.rope_interleaved,
        "partial rotary": config.positions == "rope" and config.rope_fraction < 1,
        "scaled rotary": config.rope_scaling != "none", "no biases": not config.attention_bias,
    }.items():  # fmt: skip
        source.event(event, happens)
    source.event(config.positions)
    return config


EVENTS = (
    "grouped", "one key head", "own head width", "qk norm", "capped scores", "hyperbolic", "window", "sinks", "interleaved",
    "partial rotary", "scaled rotary", "rope", "alibi", "none", "no biases",
)  # fmt: skip


def draw(source):
    config = draw_attention_config(source)
    layer = source.choice(0, 1)
    batch, length = source.integer(1, 3), source.size(17)
    kind, packed = source.choice("none", *MASKS), source.choice(False, False, True)
    looks_back = config.layer_window(layer) > 0 or config.positions == "alibi"
    causal = True if looks_back else source.flag()
    mask = attention_mask(source.rng, kind, batch, length, length)
    if mask is not None and source.flag():
        mask = mask & (source.rng.random((1, config.heads, 1, length)) < 0.8)
        source.event("heads differ")
    ids = documents(source.rng, batch, length) if packed else None
    plain = causal and not (config.window or packed or config.positions == "alibi") and length > 1
    second = layer == 1 and config.full_attention_every == 2 and length > config.window
    for event, happens in {
        kind: True, "causal": causal, "documents": packed, "both ways": not causal, "plain causal": plain,
        "alternating": second,
    }.items():  # fmt: skip
        source.event(event, happens)
    phases = rope_phases(np.arange(length)[None], config, np.float64) if config.positions == "rope" else None
    magnitudes = ("one", "small", "sixteen", "ties", "constant", "zero")
    arrays = {
        "x": source.array("x", (batch, length, config.width), magnitudes),
        "params": parameters(source.rng, config, source.choice(0.3, 1.0)),
        "mask": mask,
        "phases": phases,
        "documents": ids,
    }
    return source.case(arrays, config=config, causal=causal, layer=layer)


def shape(batch, length, width, heads):
    def build(rng):
        config = ModelConfig(width=width, heads=heads, attention_bias=True)
        return Case({"x": rng.standard_normal((batch, length, width)), "params": parameters(rng, config)}, {"config": config})

    return build


def flops(case):
    batch, length, width = case.arrays["x"].shape
    return batch * length * width * (8 * width + 4 * length)


MULTI_HEAD_ATTENTION = Component(
    name="multi_head_attention",
    numpy=numpy_attention.multi_head_attention,
    torch=torch_attention.multi_head_attention,
    draw=draw,
    differentiable=("x", "params"),
    kernels=(ATTENTION, RMS_NORM),
    fixed=("phases",),
    events=(*MASKS, *EVENTS, "causal", "both ways", "documents", "heads differ", "strided", "zero"),
    weight=3,
    shapes={
        "small": shape(2, 5, 16, 2),
        "showcase": shape(32, 128, 128, 8),
        "wide": shape(32, 256, 384, 6),
    },
    flops=flops,
    bytes=lambda case, size: size * (2 * case.arrays["x"].size + sum(p.size for p in case.arrays["params"].values())),
    bugs=(
        Bug(
            "features dealt out head by head",
            "numpy",
            "np.swapaxes(features.reshape(*features.shape[:2], heads, -1), 1, 2)",
            "np.moveaxis(features.reshape(*features.shape[:2], -1, heads), 3, 1)",
            "_split",
        ),
        Bug(
            "heads not brought back side by side",
            "numpy",
            "return swapped.reshape(*swapped.shape[:2], -1)",
            "return attended.reshape(*swapped.shape[:2], -1)",
            "_joined",
        ),
        Bug("gradient of the values doubled", "numpy", "(dquery, dkey, dvalue)]", "(dquery, dkey, 2 * dvalue)]", "project"),
        Bug("key and value swapped", "numpy", "query, key, value, mask, causal, None", "query, value, key, mask, causal, None", "_attend"),
        Bug("never causal", "numpy", "mask, causal, None, softcap)", "mask, False, None, softcap)", "_attend", needs=('plain causal',)),
        Bug("always causal", "numpy", "mask, causal, None, softcap)", "mask, True, None, softcap)", "_attend"),
        Bug("mask forgotten next to documents", "numpy", "visible if mask is None else visible & mask", "visible", "_attend", needs=('documents', 'random')),
        Bug("documents see each other", "numpy", "config.sinks, documents, documents)", "config.sinks)", "_attend", needs=('documents',)),
        Bug("keys normed with the queries' weight", "numpy", 'params.get("key_norm.weight")', 'params.get("query_norm.weight")', "project", needs=('qk norm',)),
        Bug("gradient of the norm scaled", "numpy", "return (dy, None) if norm_vjp is None else norm_vjp(dy)", "return (dy, None) if norm_vjp is None else norm_vjp(1.01 * dy)", "_prepared"),
        Bug("gradient not turned back", "numpy", "dy = turn_vjp(dy)", "pass", "_prepared"),
        Bug(
            "gradient of the output bias halved",
            "numpy",
            "= output_vjp(dy)\n",
            "= output_vjp(dy)\n        bias = grads['output.bias']\n"
            "        grads['output.bias'] = None if bias is None else 0.5 * bias\n",
        ),
        Bug("scaled by the whole width", "torch", "mask, causal, None, config.attention_softcap, bias)", "mask, causal, (config.heads * query.shape[-1]) ** -0.5, config.attention_softcap, bias)", "_attention"),
        Bug("value taken for key", "torch", "query, key, value = project(x, params, config, phases)", "query, key, value = project(x, params, config, phases)\n    value = key"),
        Bug("heads mixed", "torch", "y.transpose(1, 2).flatten(2)", "y.reshape(*x.shape[:2], -1)"),
        Bug("output bias forgotten", "torch", 'params.get("output.bias")', "None"),
        Bug("projection bias forgotten", "torch", 'params.get("query_key_value.bias")', "None", "project"),
        Bug("keys not turned", "torch", "rotary(turning, cos, sin, config.rope_interleaved)", "torch.cat((rotary(turning[:, :heads], cos, sin, config.rope_interleaved), turning[:, heads:]), 1)", "project"),
        Bug("always half-split", "torch", ", config.rope_interleaved)", ")", "project", needs=('interleaved',)),
        Bug(
            "norm after the rotation on the fast side",
            "torch",
            "    if config.qk_norm:\n        query, key = turning.split((heads, shared), 1)\n        query = rms_norm(query, params[\"query_norm.weight\"], config.norm_eps)\n        key = rms_norm(key, params[\"key_norm.weight\"], config.norm_eps)\n        turning = torch.cat((query, key), 1)\n    if phases is not None:\n",
            "    if phases is not None:\n        cos, sin = (phase.unsqueeze(1) for phase in phases)\n        turning = rotary(turning, cos, sin, config.rope_interleaved)\n    if config.qk_norm:\n        query, key = turning.split((heads, shared), 1)\n        query = rms_norm(query, params[\"query_norm.weight\"], config.norm_eps)\n        key = rms_norm(key, params[\"key_norm.weight\"], config.norm_eps)\n        turning = torch.cat((query, key), 1)\n    if False:\n",
            "project", needs=('qk norm', 'rope')),
        Bug("means of hyperbolic values", "torch", "midpoints(attended, config.attention_curvature) if", "attended[..., 1:] if", "attended_heads", needs=("hyperbolic",)),
        Bug("curvature 1 whatever the config says", "torch", "value, config.attention_curvature)", "value, 1.0)", "project", needs=("hyperbolic",)),
        Bug("gradients of the times dropped", "numpy", "lift_vjp((dquery, dkey, dvalue))", "(dquery[..., 1:], dkey[..., 1:], dvalue[..., 1:], 0)", "project", needs=("hyperbolic",)),
        Bug("every layer local", "torch", "config.layer_window(layer)", "config.window", needs=('alternating',)),
        Bug("sinks forgotten", "torch", "window, config.sinks, None,", "window, 0, None,", "_attention", needs=('sinks',)),
        Bug("slopes of a power of two", "torch", "alibi_slopes(config.heads) if", "2.0 ** -torch.arange(1, config.heads + 1).double() if", "_attention", needs=('alibi',)),
    ),
)

COMPONENTS = (MULTI_HEAD_ATTENTION,)
