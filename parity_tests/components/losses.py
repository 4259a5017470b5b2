"""Declarations of cross_entropy and linear_cross_entropy."""

import numpy as np

import numpy_ref.training.losses as numpy_losses
import torch_impl.training.losses as torch_losses
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MAGNITUDES


WEIGHTS = ("no weights", "answers alone", "prompts a little", "any weights", "weights of 0")


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
    reduction = source.choice("mean", "mean", "mean", "sum", "none")
    weights = draw_weights(source, shape)
    source.event("a mean of its own", reduction == "mean" and denominator is None)
    source.event(f"{ignored} ignored")
    source.event("smoothing and z-loss", bool(smoothing and z_loss))
    source.event("denominator of the whole step", denominator is not None)
    source.event("one token to choose from", vocabulary == 1)
    return source.case(
        {"logits": logits, "targets": targets.astype(source.choice(np.int64, np.int32)), "weights": weights},
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        z_loss=z_loss,
        denominator=denominator,
        reduction=reduction,
    )


def draw_weights(source, shape):
    """What each token counts: None, answers alone, prompts a little, any number, or nothing at all."""
    kind = source.choice("no weights", "no weights", "answers alone", "prompts a little", "any weights", "weights of 0")
    source.event(kind)
    if kind == "no weights":
        return None
    answers = source.rng.random(shape) < 0.5
    some = {"answers alone": 0.0, "prompts a little": 0.125, "weights of 0": 0.0}.get(kind)
    weights = source.rng.random(shape) * 3 if some is None else np.where(answers & (kind != "weights of 0"), 1.0, some)
    return np.asarray(weights)


def shares(arguments):
    """What each token counts, and what the mean divides by."""
    weights = 1.0 if arguments["weights"] is None else arguments["weights"]
    found = weights * (arguments["targets"] != arguments.get("ignore_index", -100))
    return found, arguments["denominator"] or np.sum(found) or 1


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
    share, divided = shares(arguments)
    dloss = np.abs(dy) / (divided if arguments["reduction"] == "mean" else 1)
    counted = np.broadcast_to(dloss, targets.shape) * share
    return {"dlogits": 2 * arguments["z_loss"] * lse * p * lse * counted[..., None]}


def shape(batch, length, vocabulary, **static):
    def build(rng):
        arrays = {
            "logits": rng.standard_normal((batch, length, vocabulary)),
            "targets": rng.integers(0, vocabulary, (batch, length)),
        }
        if batch == 2:
            arrays["weights"] = rng.integers(0, 2, (batch, length)) * 0.5
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
        "a mean of its own",
        "one token to choose from",
        "no batch",
        *WEIGHTS,
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
        Bug("ignored tokens counted", "numpy", "float(np.sum(share)) or 1.0", "max(1, valid.size)"),
        Bug("mean of means", "numpy", "if denominator is None:", "if True:"),
        Bug("0/0 when all are ignored", "numpy", "float(np.sum(share)) or 1.0", "float(np.sum(share))"),
        Bug("ignored tokens have a loss", "numpy", "np.where(valid, loss, 0.0) * share", "loss if weights is None else loss * weights.reshape(-1).astype(loss.dtype)"),
        Bug("ignored tokens have a gradient", "numpy", ".reshape(-1) * share", ".reshape(-1)"),
        Bug("weights forgotten in the gradient", "numpy", ".reshape(-1) * share", ".reshape(-1) * valid"),
        Bug("weights forgotten in the loss", "numpy", "np.where(valid, loss, 0.0) * share", "np.where(valid, loss, 0.0)"),
        Bug("tokens counted, not their weights", "numpy", "float(np.sum(share)) or 1.0", "max(1, int(np.sum(valid)))", needs=("any weights", "a mean of its own")),
        Bug("a weight is yes or no", "numpy", "_shares(targets, ignore_index, weights, x.real.dtype)", "(_shares(targets, ignore_index, weights, x.real.dtype) > 0)", needs=("any weights",)),
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
        Bug("0/0 in Torch", "torch", ".clamp(min=1)", "", "_total"),
        Bug("0/0 in Torch with weights", "torch", "total.where(total != 0, 1)", "total", "_total", needs=("weights of 0", "a mean of its own")),
        Bug("weights of ignored tokens counted", "torch", "weights.where(counts, 0).sum()", "weights.sum()", "_total", needs=("any weights", "some ignored", "a mean of its own")),
        Bug("weights forgotten in Torch", "torch", "loss = loss * weights", "loss = loss * (weights != 0)", needs=("any weights",)),
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
            "return loss / (",
            "return loss.to(logits.dtype).float() / (",
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
    weights = draw_weights(source, shape)
    source.event("sure of the target", sure)
    source.event(f"{ignored} ignored")
    source.event("several chunks", chunk < tokens)
    source.event("last chunk shorter", chunk < tokens and tokens % chunk > 0)
    source.event("softcap", bool(softcap))
    source.event("smoothing", bool(smoothing))
    source.event("z-loss", bool(z_loss))
    source.event(reduction)
    return source.case(
        {"x": x, "weight": weight, "targets": targets, "weights": weights},
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
        "last chunk shorter", "softcap", "smoothing", "z-loss", "mean", "sum", "none", "last token", *WEIGHTS,
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
        Bug("weights of the first chunk for all", "numpy", "share[part]", "share[: len(rows[part])]", needs=("several chunks", "any weights")),
        Bug("tokens counted, not their weights", "numpy", "_shares(targets, ignore_index, weights, x.real.dtype)", "_shares(targets, ignore_index, None, x.real.dtype)", needs=("any weights", "mean")),
        Bug("weight's gradient of the last chunk alone", "numpy", "dweight = dweight + dweight_part", "dweight = dweight_part"),
        Bug("ignored tokens have a gradient", "torch", "(p * shares[:, None])", "(p * shares.where(counts, 1)[:, None])", "_chunk_losses"),
        Bug("ignored tokens have a loss", "torch", "loss.where(shares != 0, 0) * shares", "loss * shares.where(counts, 1)", "_chunk_losses"),
        Bug("weights forgotten in the gradient", "torch", "(p * shares[:, None])", "(p * counts[:, None])", "_chunk_losses", needs=("any weights", "mean")),
        Bug("weights forgotten in the loss", "torch", "loss.where(shares != 0, 0) * shares", "loss.where(shares != 0, 0)", "_chunk_losses", needs=("any weights",)),
        Bug("weights forgotten in a later backward", "torch", "dy[part] * shares[part]", "dy[part]", "backward", needs=("any weights", "none")),
        Bug("weights of all tokens for those kept", "torch", "weights[kept]", "weights[: len(kept)]", needs=("answers alone",)),
        Bug("losses at the beginning of the row", "torch", "index_copy(0, kept, loss)", "index_copy(0, torch.arange(len(kept)), loss)", needs=("answers alone", "none")),
        Bug("one factor for all tokens", "torch", "else dy[part] * shares[part]", "else dy[:1] * shares[part]", "backward", needs=("none", "any weights")),
        Bug("z-loss's gradient halved", "torch", "1 + 2 * z_loss * lse", "1 + z_loss * lse", "_chunk_losses"),
        Bug("z-loss of the shifted logits", "torch", "lse = total.log() + peak[:, 0]", "lse = total.log()", "_chunk_losses"),
        Bug("smoothing forgotten in the gradient", "torch", "p -= smoothing / p.shape[-1]", "p -= 0", "_chunk_losses"),
        Bug("softcap's slope forgotten", "torch", "p *= 4 * e / (1 + e) ** 2", "p *= 1", "_chunk_losses"),
        Bug("gradient not multiplied by dy", "torch", "(dweight * dy)", "(dweight * 1)", "backward"),
        Bug("target's gradient rounded before the subtraction", "torch", "p.scatter_add_", "p = p.half().float(); p.scatter_add_", "_chunk_losses"),
    ),
)

COMPONENTS = (CROSS_ENTROPY, LINEAR_CROSS_ENTROPY)
