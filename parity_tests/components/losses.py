"""Declarations of cross_entropy and linear_cross_entropy."""

import numpy as np

import numpy_ref.training.losses as numpy_losses
import torch_impl.training.losses as torch_losses
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MAGNITUDES


def draw(source):
    shape, vocabulary = (*source.leading(1), source.size(17)), source.size(65)
    if source.integer(0, 3) == 0:
        shape = ()  # one token alone
    source.event("no batch", not shape)
    ignore_index = source.choice(-100, -1, 0)  # 0 is a token that exists: padding
    targets = np.atleast_1d(source.tokens(shape, vocabulary)).reshape(shape)
    logits = _logits(source, targets, vocabulary)
    ignored = source.choice("none", "some", "some", "all", "all")
    if ignored != "none":
        targets = np.where(source.rng.random(shape) < (1 if ignored == "all" else 0.4), ignore_index, targets)
    smoothing, z_loss = source.choice(0.0, 0.1, 0.5), source.choice(0.0, 1e-2, 0.3)
    if "huge" in source.events:
        z_loss = 0.0  # the square of what float64 calls huge is infinite in float32
    if not smoothing and vocabulary > 2 and source.flag():  # with smoothing every token has a share of the loss
        hidden = (source.rng.random(logits.shape) < 0.3) & (np.arange(vocabulary) != targets[..., None])
        logits = np.where(hidden & (ignored != "all"), -np.inf, logits)
        source.layouts["logits"] = "transposed"
        source.event("impossible tokens", bool(np.isinf(logits).any()))
        logits[..., 0] = np.where(np.isinf(logits).all(-1), 0.0, logits[..., 0])
    denominator = source.choice(None, None, None, 7, 3.5)
    source.event(f"{ignored} ignored")
    source.event("smoothing and z-loss", bool(smoothing and z_loss))
    source.event("denominator of the whole step", denominator is not None)
    source.event("one token to choose from", vocabulary == 1)
    return source.case(
        {"logits": logits, "targets": targets.astype(source.choice(np.int64, np.int32))},
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        z_loss=z_loss,
        denominator=denominator,
        reduction=source.choice("mean", "mean", "mean", "sum", "none"),
    )


def _logits(source, targets, vocabulary):
    """Logits of any magnitude; half of the time the model is sure of the target, and its gradient is all but zero."""
    shape = (*targets.shape, vocabulary)
    sure = source.flag()
    source.event("sure of the target", sure)
    if not sure:
        return source.array("logits", shape, (*MAGNITUDES, "huge"))
    logits = source.array("logits", shape, ("one",), ("contiguous", "transposed", "sliced"))
    np.put_along_axis(logits, targets[..., None], source.choice(5.0, 10.0, 20.0, 40.0), axis=-1)
    return logits


def recomputed_softmax(arguments, dy, unit):
    """The gradient of torch.logsumexp, which serves the z-loss, is exp(x - lse): right to u |lse| of p only.

    The reference shifts the logits first. Where one token is sure, p is 1 on either side.
    """
    logits, targets = arguments["logits"], arguments["targets"]
    peak = logits.max(-1, keepdims=True)
    total = np.exp(logits - peak).sum(-1, keepdims=True)
    lse, p = np.abs(np.log(total) + peak), np.exp(logits - peak) / total
    divided = arguments["denominator"] or np.maximum(1, (targets != arguments["ignore_index"]).sum())
    dloss = np.abs(dy) / (divided if arguments["reduction"] == "mean" else 1)
    counted = np.broadcast_to(dloss, targets.shape) * (targets != arguments["ignore_index"])
    return {"dlogits": 2 * arguments["z_loss"] * lse * p * lse * counted[..., None]}


def shape(batch, length, vocabulary, **static):
    def build(rng):
        arrays = {
            "logits": rng.standard_normal((batch, length, vocabulary)),
            "targets": rng.integers(0, vocabulary, (batch, length)),
        }
        return Case(arrays, static)

    return build


def _tokens(case):
    return case.arrays["targets"].size


CROSS_ENTROPY = Component(
    name="cross_entropy",
    numpy=numpy_losses.cross_entropy,
    torch=torch_losses.cross_entropy,
    draw=draw,
    differentiable=("logits",),
    inside="float32",
    outputs={"value": {"bfloat16": "float32", "float16": "float32"}},
    cancellation=recomputed_softmax,
    events=(
        "sure of the target",
        "impossible tokens",
        "some ignored",
        "all ignored",
        "smoothing and z-loss",
        "denominator of the whole step",
        "one token to choose from",
        "no batch",
        "last token",
        "huge",
        "ties",
        "strided",
    ),
    shapes={
        "small": shape(2, 7, 11, label_smoothing=0.1, z_loss=1e-2),
        "showcase": shape(32, 128, 256),
        "wide": shape(4, 128, 50257),
    },
    flops=lambda case: 5 * case.arrays["logits"].size,
    bytes=lambda case, size: size * case.arrays["logits"].size + 8 * _tokens(case),
    bugs=(
        Bug("ignored tokens counted", "numpy", "max(1, int(np.sum(valid)))", "max(1, valid.size)"),
        Bug("mean of means", "numpy", "if denominator is None:", "if True:"),
        Bug("0/0 when all are ignored", "numpy", "max(1, int(np.sum(valid)))", "int(np.sum(valid))"),
        Bug("ignored tokens have a loss", "numpy", "loss = np.where(valid, loss, 0.0)", "loss = +loss"),
        Bug("ignored tokens have a gradient", "numpy", ".reshape(-1) * valid", ".reshape(-1)"),
        Bug("one gradient for all tokens", "numpy", "broadcast_to(dy,", "broadcast_to(np.ravel(dy)[0],"),
        Bug("gradient not divided", "numpy", 'dy / denominator if reduction == "mean" else dy', "dy"),
        Bug("smoothing over the other tokens", "numpy", "/ vocabulary) * dloss", "/ max(1, vocabulary - 1)) * dloss"),
        Bug("smoothing only adds", "numpy", "- (1.0 - label_smoothing) * shifted", "- shifted"),
        Bug("smoothing sums", "numpy", "label_smoothing * np.mean(", "label_smoothing * np.sum("),
        Bug("maximum not subtracted", "numpy", "shifted = x - peak", "peak = 0 * peak; shifted = x"),
        Bug("logarithm of 0 averted", "numpy", "np.log(total)", "np.log(total + 1e-5)"),
        Bug("z-loss of the shifted logits", "numpy", "z_loss * lse * lse", "z_loss * shifted_lse * shifted_lse"),
        Bug("z-loss's gradient halved", "numpy", "2.0 * z_loss * lse", "z_loss * lse"),
        Bug(
            "target gradient rounded before the subtraction",
            "numpy",
            "dx[row, target] -=",
            "dx = dx.astype(np.float16).astype(dx.dtype); dx[row, target] -=",
        ),
        Bug("smoothing forgotten", "torch", "label_smoothing=label_smoothing, ", ""),
        Bug("ignore_index accepted but not used", "torch", "ignore_index=ignore_index, ", ""),
        Bug(
            "ignored tokens have a z-loss",
            "torch",
            "torch.where(labels != ignore_index, torch.logsumexp(rows, -1) ** 2, 0)",
            "torch.logsumexp(rows, -1) ** 2",
        ),
        Bug("0/0 in Torch", "torch", ".clamp(min=1)", ""),
        Bug(
            "log-probabilities rounded to 16 bits",
            "torch",
            "F.cross_entropy(rows,",
            "F.cross_entropy(torch.log_softmax(rows, -1).to(logits.dtype).float(),",
            dtype="bfloat16",
        ),
        Bug(
            "loss rounded to 16 bits",
            "torch",
            "loss / denominator",
            "loss.to(logits.dtype).float() / denominator",
            dtype="bfloat16",
        ),
    ),
)


def draw_fused(source):
    """Fewer tokens than a chunk, some chunks of unequal size, or each token a chunk; ignored tokens anywhere."""
    shape = (*source.leading(1), source.size(17))
    tokens, vocabulary, width = int(np.prod(shape)), source.size(33), source.size(9)
    chunk = source.choice(1, 2, 5, tokens, tokens + 1, 1024)
    targets = source.tokens(shape, vocabulary)
    weight = source.rng.standard_normal((vocabulary, width)) / np.sqrt(width)
    x = source.array("x", (*shape, width), ("one", "small", "sixteen", "ties", "zero"))
    sure = source.flag()
    if sure:  # the hidden state points where its target does, so that p is close to 1
        x = weight[targets] * (source.choice(5.0, 20.0) / (weight[targets] ** 2).sum(-1, keepdims=True))
    ignored = source.choice("none", "some", "some", "later chunks", "all")
    share = {"none": 0.0, "some": 0.4, "later chunks": np.arange(tokens).reshape(shape) >= chunk, "all": 1.0}[ignored]
    targets = np.where(source.rng.random(shape) < share, -100, targets)
    softcap = source.choice(0.0, 0.0, 3.0)
    smoothing, z_loss = source.choice(0.0, 0.1), source.choice(0.0, 1e-2)
    reduction = source.choice("mean", "mean", "sum", "none")
    source.event("sure of the target", sure)
    source.event(f"{ignored} ignored")
    source.event("several chunks", chunk < tokens)
    source.event("last chunk shorter", chunk < tokens and tokens % chunk > 0)
    source.event("softcap", bool(softcap))
    source.event("smoothing", bool(smoothing))
    source.event("z-loss", bool(z_loss))
    source.event(reduction)
    return source.case(
        {"x": x, "weight": weight, "targets": targets},
        softcap=softcap,
        label_smoothing=smoothing,
        z_loss=z_loss,
        denominator=source.choice(None, None, 7),
        reduction=reduction,
        chunk=chunk,
    )


def fused_shape(tokens, width, vocabulary, **static):
    def build(rng):
        arrays = {
            "x": rng.standard_normal((tokens, width)),
            "weight": rng.standard_normal((vocabulary, width)) / np.sqrt(width),
            "targets": rng.integers(0, vocabulary, tokens),
        }
        return Case(arrays, static)

    return build


LINEAR_CROSS_ENTROPY = Component(
    name="linear_cross_entropy",
    numpy=numpy_losses.linear_cross_entropy,
    torch=torch_losses.linear_cross_entropy,
    draw=draw_fused,
    differentiable=("x", "weight"),
    outputs={"value": {"bfloat16": "float32", "float16": "float32"}},
    kernels=(CROSS_ENTROPY,),
    weight=2,
    events=(
        "sure of the target", "none ignored", "some ignored", "later chunks ignored", "all ignored", "several chunks",
        "last chunk shorter", "softcap", "smoothing", "z-loss", "mean", "sum", "none", "last token",
    ),
    shapes={
        "small": fused_shape(7, 5, 11, chunk=3, softcap=5.0, label_smoothing=0.1, z_loss=1e-2),
        "showcase": fused_shape(4096, 128, 256),
        "wide": fused_shape(512, 128, 50257, chunk=128),
    },
    flops=lambda case: 2 * case.arrays["x"].size * len(case.arrays["weight"]),
    bytes=lambda case, size: size * (case.arrays["x"].size + case.arrays["weight"].size) + 8 * _tokens(case),
    bugs=(
        Bug("last chunk left out of the weight's gradient", "numpy", "dweight + dweight_part", "dweight + dweight_part * (part != parts[-1])", needs=("several chunks",)),
        Bug("targets of the first chunk for all", "numpy", "labels[part]", "labels[: len(rows[part])]"),
        Bug("mean of the chunks' means", "numpy", "loss = np.concatenate([losses(part)[0] for part in parts])", "loss = np.concatenate([losses(part)[0] * len(rows) / (len(parts) * len(rows[part])) for part in parts])"),
        Bug("one gradient for all tokens", "numpy", "broadcast_to(dy,", "broadcast_to(np.ravel(dy)[0],"),
        Bug("softcap forgotten in the backward", "numpy", "dlogits if cap_vjp is None else cap_vjp(dlogits)", "dlogits", needs=("softcap",)),
        Bug("weight's gradient of the last chunk alone", "numpy", "dweight = dweight + dweight_part", "dweight = dweight_part"),
        Bug("ignored tokens have a gradient", "torch", "counts.to(p.dtype) if dy is None else dy.where(counts, 0)", "p.new_ones(len(p)) if dy is None else dy", "_chunk_losses"),
        Bug("ignored tokens have a loss", "torch", "loss = loss.where(counts, 0)", "loss = loss + 0", "_chunk_losses"),
        Bug("one factor for all tokens", "torch", "dy[part]", "dy[:1].expand(len(x[part]))", "backward", needs=("none",)),
        Bug("z-loss's gradient halved", "torch", "1 + 2 * z_loss * lse", "1 + z_loss * lse", "_chunk_losses"),
        Bug("z-loss of the shifted logits", "torch", "lse = total.log() + peak[:, 0]", "lse = total.log()", "_chunk_losses"),
        Bug("smoothing forgotten in the gradient", "torch", "p -= smoothing / p.shape[-1]", "p -= 0", "_chunk_losses"),
        Bug("softcap's slope forgotten", "torch", "p *= 4 * e / (1 + e) ** 2", "p *= 1", "_chunk_losses"),
        Bug("gradient not multiplied by dy", "torch", "(dweight * dy)", "(dweight * 1)", "backward"),
        Bug("target's gradient rounded before the subtraction", "torch", "p.scatter_add_", "p = p.half().float(); p.scatter_add_", "_chunk_losses"),
    ),
)

COMPONENTS = (CROSS_ENTROPY, LINEAR_CROSS_ENTROPY)
