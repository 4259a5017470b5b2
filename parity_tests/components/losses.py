"""Declaration of cross_entropy."""

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

COMPONENTS = (CROSS_ENTROPY,)
