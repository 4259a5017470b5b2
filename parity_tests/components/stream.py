"""Declarations of the transformer on vectors: hidden states chunk by chunk, and the scores of words."""

import numpy as np
import torch

import numpy_ref.thoughts.stream as numpy_stream
import torch_impl.thoughts.stream as torch_stream
from numpy_ref.config import NORM_POSITIONS, NORMS, ModelConfig, parameter_shapes
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.harness.declaration import Bug, Component

POSITIONS = ("learned", "rope", "sinusoidal", "none")


def plain_config(source, **more):
    """A small model of a kind that can think."""
    width, heads = source.choice((4, 1), (8, 2), (8, 4))
    options = {
        "positions": source.choice(*POSITIONS), "norm": source.choice(*NORMS), "norm_position": source.choice(*NORM_POSITIONS),
        "kv_heads": source.choice(0, 1), "tie_embeddings": source.flag(), "activation": source.choice("gelu", "swiglu"),
        "qk_norm": source.flag(), "attention_bias": source.flag(), "logit_softcap": source.choice(0.0, 3.0),
        "embedding_scale": source.choice(1.0, 2.0),
    }  # fmt: skip
    if width // heads % 2:
        options["positions"] = source.choice("learned", "none")
    sizes = {"vocab_size": 9, "context": 12, "layers": source.integer(1, 2), "width": width, "heads": heads, "feed_forward": 5}
    config = ModelConfig(**sizes | options | more)
    for event in (config.positions, config.norm, config.norm_position):
        source.event(event)
    source.event("tied", config.tie_embeddings)
    source.event("two layers", config.layers == 2)
    source.event("shared keys", config.key_value_heads < config.heads)
    return config


def chunked(function, arguments):
    """All hidden states, computed chunk by chunk; the NumPy side has a vjp of the whole chain."""
    x, params, config, cuts = (arguments[name] for name in ("x", "params", "config", "cuts"))
    edges, past, found = [0, *cuts, x.shape[1]], None, []
    for start, end in zip(edges, edges[1:]):
        result = function(x[:, start:end], params, config, past)
        if torch.is_tensor(x):
            y, past = result
            found.append(y)
        else:
            (y, past), vjp = result
            found.append((y, vjp, start, end))
    if torch.is_tensor(x):
        return torch.cat(found, 1)

    def whole_vjp(dy):
        dx, grads = np.zeros_like(x), {name: np.zeros_like(param) for name, param in params.items()}
        for _, vjp, start, end in found:
            dnew, dpast, some = vjp(dy[:, start:end])
            dx[:, start:end] += dnew
            if dpast is not None:
                dx[:, :start] += dpast
            for name, grad in some.items():
                grads[name] = grads[name] + grad
        return dx, grads

    return np.concatenate([y for y, *_ in found], axis=1), whole_vjp


def used(config):
    """The shapes of what lies between embedding and output matrix."""
    shapes = parameter_shapes(config)
    return {name: shape for name, shape in shapes.items() if name not in ("token_embedding.weight", "output.weight")}


def draw_states(source):
    config, length = plain_config(source), source.integer(1, 8)
    cuts = sorted(set(source.rng.integers(1, length, source.integer(0, 3)).tolist())) if length > 1 else []
    source.event("one chunk", not cuts)
    source.event("three chunks", len(cuts) == 2)
    source.event("one token", 1 in np.diff([0, *cuts, length]))
    x = source.array("x", (source.integer(1, 2), length, config.width), ("one", "small", "sixteen"))
    return source.case({"x": x, "params": random_parameters(source.rng, used(config))}, config=config, cuts=tuple(cuts))


HIDDEN_STATES = Component(
    name="hidden_states",
    numpy=numpy_stream.hidden_states,
    torch=torch_stream.hidden_states,
    draw=draw_states,
    call=chunked,
    differentiable=("x", "params"),
    kernels=KERNELS,
    events=(*POSITIONS, *NORM_POSITIONS, *NORMS, "one chunk", "three chunks", "one token", "two layers", "shared keys"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("the gradient stops at the past", "numpy", "else dh[:, :before], grads", "else 0 * dh[:, :before], grads", needs=("three chunks",)),
        Bug("gradients of new and past exchanged", "numpy", "dh[:, before:] = dy", "dh[:, : dy.shape[1]] = dy", needs=("three chunks",)),
        Bug("places from 0 in every chunk", "torch", "start = 0 if past is None else past[0][0].shape[2]", "start = 0", needs=("three chunks", "learned")),
        Bug("keys detached", "torch", "torch.cat(pair, 2)", "torch.cat((pair[0].detach(), pair[1]), 2)", function="_block", needs=("three chunks",)),
        Bug("past forgotten", "torch", "if past is not None:", "if False:", function="_block", needs=("three chunks",)),
        Bug("keys and values of the first layer for all", "torch", "else past[layer]", "else past[0]", needs=("three chunks", "two layers")),
        Bug("sees the future", "torch", "key, value, None, True, None", "key, value, None, False, None", function="_block"),
        Bug("no final norm", "numpy", 'config.norm_position == "pre"', "False", needs=("pre",)),
        Bug("places without a gradient", "numpy", 'place_vjp(np.sum(dh, axis=0, keepdims=True))', '0 * place_vjp(np.sum(dh, axis=0, keepdims=True))', needs=("learned",)),
    ),
)  # fmt: skip


def draw_logits(source):
    config = plain_config(source)
    names = ("token_embedding.weight",) if config.tie_embeddings else ("output.weight",)
    params = random_parameters(source.rng, {name: parameter_shapes(config)[name] for name in names})
    shape = (source.integer(1, 3), source.size(9), config.width)[: source.choice(2, 3)]
    shape = (*shape[:-1], config.width)
    source.event("capped", config.logit_softcap > 0)
    return source.case({"hidden": source.array("hidden", shape), "params": params}, config=config)


WORD_LOGITS = Component(
    name="word_logits",
    numpy=numpy_stream.word_logits,
    torch=torch_stream.word_logits,
    draw=draw_logits,
    differentiable=("hidden", "params"),
    kernels=KERNELS,
    events=("tied", "capped", "zero", "heavy"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("states without a gradient", "numpy", "return dhidden, {name", "return 0 * dhidden, {name"),
        Bug("cap without a gradient of its own", "numpy", "dy if cap_vjp is None else cap_vjp(dy)", "dy", needs=("capped",)),
        Bug("cap forgotten", "numpy", "if config.logit_softcap:", "if False:", needs=("capped",)),
        Bug("weights without a gradient", "numpy", "{name: dweight}", "{name: 0 * dweight}"),
        Bug("capped twice", "torch", "softcap(logits, config.logit_softcap)", "softcap(softcap(logits, config.logit_softcap), config.logit_softcap)", needs=("capped",)),
    ),
)  # fmt: skip


def draw_rows(source):
    rows = source.rng.integers(0, 3, source.integer(1, 5))
    source.event("twice", len(set(rows.tolist())) < len(rows))
    source.event("out of order", rows.tolist() != sorted(rows.tolist()))
    return source.case({"past": source.array("past", (3, 4, 2)), "rows": rows})


def one_layer(function, arguments):
    """The past of the Torch side is keys and values: here the same array is both."""
    past, rows = arguments["past"], arguments["rows"]
    if not torch.is_tensor(past):
        return np.stack([function(past, rows), function(2 * past, rows)])
    ((key, value),) = function([(past, 2 * past)], rows)
    return torch.stack((key, value))


PAST_ROWS = Component(
    name="past_rows",
    numpy=numpy_stream.past_rows,
    torch=torch_stream.past_rows,
    draw=draw_rows,
    call=one_layer,
    exact=True,
    dtypes=("float64",),
    events=("twice", "out of order"),
    compiles=False,
    bugs=(
        Bug("in order", "numpy", "past[rows]", "past[np.sort(rows)]", needs=("out of order",)),
        Bug("the first rows", "numpy", "past[rows]", "past[np.arange(len(rows)) % 3]"),
        Bug("columns", "torch", "part[rows]", "part[:, rows]"),
        Bug("all rows", "torch", "part[rows]", "part"),
        Bug("keys alone", "torch", "tuple(part[rows] for part in layer)", "(layer[0][rows], layer[1][: len(rows)] * 0 + layer[0][rows][: len(layer[1])].mean())"),
    ),
)  # fmt: skip

COMPONENTS = (HIDDEN_STATES, WORD_LOGITS, PAST_ROWS)
