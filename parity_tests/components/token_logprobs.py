"""Declarations of token_logprobs, token_entropy and linear_token_logprobs."""

import numpy as np

import numpy_ref.training.token_logprobs as numpy_logprobs
import torch_impl.training.token_logprobs as torch_logprobs
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import LAYOUTS, MAGNITUDES

TEMPERATURES = (1.0, 1.0, 0.7, 0.6, 2.5)
WIDE = {"value": {"bfloat16": "float32", "float16": "float32"}}


def draw_logits(source, shape, magnitudes, layouts=LAYOUTS):
    """Logits of any magnitude, impossible tokens among them, and which tokens a sampler kept; a token is always left."""
    logits = source.array("logits", shape, magnitudes, layouts)
    hidden = source.choice("nothing", "nothing", "impossible tokens", "not kept", "both")
    possible = source.rng.random(shape) < 0.6
    possible[..., source.rng.integers(shape[-1])] = True
    if hidden in ("impossible tokens", "both"):
        logits = np.where(source.rng.random(shape) < 0.3, -np.inf, logits)
        logits = np.where(possible & (possible.sum(-1, keepdims=True) == 1), 0.0, logits)
        logits[..., 0] = np.where(np.isinf(np.where(possible, logits, -np.inf)).all(-1), 0.0, logits[..., 0])
        possible[..., 0] |= np.isinf(np.where(possible, logits, -np.inf)).all(-1)
        source.layouts["logits"] = "transposed"
        source.event("impossible tokens", bool(np.isinf(logits).any()))
    kept = possible if hidden in ("not kept", "both") else None
    source.event("not kept", kept is not None and not kept.all())
    source.event("one token to choose from", shape[-1] == 1)
    return logits, kept


def draw_targets(source, shape, logits, kept):
    """Possible targets; half of the time the model is sure of them, and their gradient is all but zero."""
    possible = logits > -np.inf if kept is None else (logits > -np.inf) & kept
    targets = np.argmax(possible * source.rng.random(logits.shape), axis=-1)
    if source.flag() and "huge" not in source.events:
        np.put_along_axis(logits, targets[..., None], source.choice(5.0, 20.0, 40.0), axis=-1)
        source.event("sure of the target")
    source.event("last token", bool((targets == logits.shape[-1] - 1).any()))
    ignored = source.choice("none", "some", "all")
    source.event(f"{ignored} ignored")
    share = {"none": 0.0, "some": 0.4, "all": 1.0}[ignored]
    targets = np.where(source.rng.random(shape) < share, -100, targets)
    return targets.astype(source.choice(np.int64, np.int32))


def draw_logprobs(source):
    shape = source.leading()
    source.event("no batch", not shape)
    logits, kept = draw_logits(source, (*shape, source.size(65)), (*MAGNITUDES, "huge"))
    targets = draw_targets(source, shape, logits, kept)
    temperature = source.choice(*TEMPERATURES)
    source.event("temperature", temperature != 1)
    return source.case({"logits": logits, "targets": targets, "kept": kept}, temperature=temperature)


def logits_shape(tokens, vocabulary, targets=True, **static):
    def build(rng):
        arrays = {"logits": rng.standard_normal((tokens, vocabulary))}
        if targets:
            arrays["targets"] = rng.integers(0, vocabulary, tokens)
        return Case(arrays, static)

    return build


def logits_shapes(**options):
    return {
        "small": logits_shape(6, 11, temperature=0.7, **options),
        "showcase": logits_shape(4096, 256, temperature=0.7, **options),
        "wide": logits_shape(512, 50257, **options),
    }


TOKEN_LOGPROBS = Component(
    name="token_logprobs",
    numpy=numpy_logprobs.token_logprobs,
    torch=torch_logprobs.token_logprobs,
    draw=draw_logprobs,
    differentiable=("logits",),
    inside="float32",
    outputs=WIDE,
    events=(
        "impossible tokens", "not kept", "one token to choose from", "sure of the target", "last token", "temperature",
        "none ignored", "some ignored", "all ignored", "no batch", "huge", "ties", "strided",
    ),
    shapes=logits_shapes(),
    flops=lambda case: 5 * case.arrays["logits"].size,
    bytes=lambda case, size: size * case.arrays["logits"].size,
    bugs=(
        Bug("temperature forgotten (policy-gradients scores at 1 what it samples at 0.6)", "numpy", "(rows, _flat(kept), temperature)", "(rows, _flat(kept), 1.0)"),
        Bug("temperature forgotten in the gradient", "numpy", "* valid / temperature", "* valid"),
        Bug("filters not mirrored: the full vocabulary's distribution", "numpy", "visible = visible & kept", "pass", "_scores"),
        Bug("maximum not subtracted", "numpy", "x - peak, 0.0", "x, 0.0", "_scores"),
        Bug("logarithm of the rounded probability", "numpy", "shifted[row, labels] - log_total, -np.inf", "np.log(p[row, labels]), -np.inf"),
        Bug("ignored tokens have a gradient", "numpy", "dy.reshape(-1) * valid", "dy.reshape(-1)"),
        Bug("ignored tokens have a value", "numpy", "logprobs = np.where(valid, logprobs, 0.0)", "pass"),
        Bug("gradient of the surprise", "numpy", "dx = -p * dlogprobs", "dlogprobs = -dlogprobs; dx = -p * dlogprobs"),
        Bug("targets of the next row", "numpy", "shifted[row, labels]", "shifted[row, np.roll(labels, 1)]"),
        Bug("temperature multiplies", "torch", "shifted /= temperature", "shifted *= temperature", "_scores"),
        Bug("filters not mirrored in Torch", "torch", "x if kept is None else x.masked_fill(~kept, -torch.inf)", "x", "_scores"),
        Bug("ignored tokens have a gradient in Torch", "torch", ".where(counts, 0)[:, None]\n        dlogits -=", "[:, None]\n        dlogits -=", "_gradient"),
        Bug("temperature forgotten in Torch's gradient", "torch", "dlogprobs.to(p.dtype) / temperature", "dlogprobs.to(p.dtype)", "_gradient"),
        Bug("rounded to 16 bits", "torch", "logits.float() if logits.itemsize == 2 else logits", "logits", "_scores", dtype="bfloat16"),
    ),
)


def draw_entropy(source):
    """No rows of equal logits: their entropy is largest, and of a gradient of 0 a complex step shows its own rounding."""
    shape = (*source.leading(), source.size(65))
    logits, kept = draw_logits(source, shape, ("one", "sixteen", "offset", "heavy", "ties", "above exp"), LAYOUTS[:4])
    alike = logits.max(-1, keepdims=True) - np.where(np.isinf(logits), np.inf, logits).min(-1, keepdims=True) < 0.1
    logits = logits + alike * np.arange(shape[-1])
    temperature = source.choice(*TEMPERATURES)
    source.event("temperature", temperature != 1)
    return source.case({"logits": logits, "kept": kept}, temperature=temperature)


TOKEN_ENTROPY = Component(
    name="token_entropy",
    numpy=numpy_logprobs.token_entropy,
    torch=torch_logprobs.token_entropy,
    draw=draw_entropy,
    differentiable=("logits",),
    inside="float32",
    outputs=WIDE,
    events=("impossible tokens", "not kept", "one token to choose from", "temperature", "above exp", "ties", "strided"),
    shapes=logits_shapes(targets=False),
    flops=lambda case: 7 * case.arrays["logits"].size,
    bytes=lambda case, size: size * case.arrays["logits"].size,
    bugs=(
        Bug("negative", "numpy", "return entropy.", "return -entropy."),
        Bug("gradient of the cross-entropy", "numpy", " + entropy[:, None])", ")"),
        Bug("gradient's sign", "numpy", "dx = -p *", "dx = p *"),
        Bug("in bits", "numpy", "return entropy.", "return (entropy / np.log(2))."),
        Bug("temperature forgotten in the gradient", "numpy", "dy.reshape(-1) / temperature", "dy.reshape(-1)"),
        Bug("impossible tokens are NaN", "torch", "(p * shifted.clamp(min=lowest))", "(p * shifted)", "_values"),
        Bug("impossible tokens have a gradient of NaN", "torch", "shifted.clamp_(min=torch.finfo(shifted.dtype).min)", "pass", "_gradient"),
        Bug("the gradient is not centred", "torch", "(shifted - mean)", "shifted", "_gradient"),
        Bug("temperature forgotten in Torch", "torch", "if temperature != 1:", "if False:", "_scores"),
    ),
)


def draw_linear(source):
    shape = source.leading()
    tokens, vocabulary, width = int(np.prod(shape)), source.size(33), source.size(9)
    chunk = source.choice(1, 2, 5, max(1, tokens), tokens + 1, 1024)
    x = source.array("x", (*shape, width), ("one", "small", "sixteen", "ties", "zero"))
    weight = source.rng.standard_normal((vocabulary, width)) / np.sqrt(width)
    targets = source.tokens(shape, vocabulary)
    ignored = source.choice("none", "some", "all")
    targets = np.where(source.rng.random(shape) < {"none": 0.0, "some": 0.4, "all": 1.0}[ignored], -100, targets)
    softcap, temperature = source.choice(0.0, 0.0, 3.0), source.choice(*TEMPERATURES)
    source.event(f"{ignored} ignored")
    source.event("several chunks", chunk < tokens)
    source.event("last chunk shorter", chunk < tokens and tokens % chunk > 0)
    source.event("softcap", bool(softcap))
    source.event("temperature", temperature != 1)
    static = {"softcap": softcap, "temperature": temperature, "chunk": chunk}
    return source.case({"x": x, "weight": weight, "targets": targets}, **static)


def linear_shape(tokens, width, vocabulary, **static):
    def build(rng):
        arrays = {
            "x": rng.standard_normal((tokens, width)),
            "weight": rng.standard_normal((vocabulary, width)) / np.sqrt(width),
            "targets": rng.integers(0, vocabulary, tokens),
        }
        return Case(arrays, static)

    return build


LINEAR_TOKEN_LOGPROBS = Component(
    name="linear_token_logprobs",
    numpy=numpy_logprobs.linear_token_logprobs,
    torch=torch_logprobs.linear_token_logprobs,
    draw=draw_linear,
    differentiable=("x", "weight"),
    outputs=WIDE,
    weight=2,
    events=(
        "none ignored", "some ignored", "all ignored", "several chunks", "last chunk shorter", "softcap", "temperature",
        "last token",
    ),
    shapes={
        "small": linear_shape(7, 5, 11, chunk=3, softcap=5.0, temperature=0.7),
        "showcase": linear_shape(4096, 128, 256),
        "wide": linear_shape(512, 128, 50257, chunk=128),
    },
    flops=lambda case: 2 * case.arrays["x"].size * len(case.arrays["weight"]),
    bytes=lambda case, size: size * (case.arrays["x"].size + case.arrays["weight"].size) + 8 * case.arrays["targets"].size,
    bugs=(
        Bug("the first chunk's targets for all", "numpy", "labels[part], temperature", "labels[: len(rows[part])], temperature", needs=("several chunks", "none ignored")),
        Bug("the entropy has no gradient", "numpy", "logprobs_vjp(dy[0]) + entropy_vjp(dy[1])", "logprobs_vjp(dy[0])"),
        Bug("cotangents exchanged", "numpy", "logprobs_vjp(dy[0]) + entropy_vjp(dy[1])", "logprobs_vjp(dy[1]) + entropy_vjp(dy[0])"),
        Bug("the last chunk's gradient alone", "numpy", "dweight = dweight + dweight_part", "dweight = dweight_part", needs=("several chunks",)),
        Bug("softcap forgotten in the backward", "numpy", "dlogits if cap_vjp is None else cap_vjp(dlogits)", "dlogits", needs=("softcap",)),
        Bug("the last chunk's gradient alone in Torch", "torch", "dweight +=", "dweight =", "_Linear", needs=("several chunks",)),
        Bug("softcap's slope forgotten", "torch", "dlogits *= 4 * e / (1 + e) ** 2", "pass", "_Linear", needs=("softcap",)),
        Bug("one cotangent for both", "torch", "dy[0, part], dy[1, part]", "dy[0, part], dy[0, part]", "_Linear"),
        Bug("temperature before the softcap", "torch", "logits = _bent(F.linear(x[part], weight), softcap)", "logits = rest[0] * _bent(F.linear(x[part], weight) / rest[0], softcap)", "_Linear", needs=("softcap", "temperature")),
    ),
)

COMPONENTS = (TOKEN_LOGPROBS, TOKEN_ENTROPY, LINEAR_TOKEN_LOGPROBS)
