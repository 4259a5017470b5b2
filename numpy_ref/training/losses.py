"""Cross-entropy: how surprised the model is by the token that came."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.activations import softcap as bend
from numpy_ref.model.linear import linear
from numpy_ref.precision import stored_once


@stored_once(value=False)
def cross_entropy(
    logits,
    targets,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    denominator=None,
    reduction="mean",
    weights=None,
):
    """Negative log-likelihood of the targets in nats, with label smoothing and a z-loss.

    For each token with target y and smoothing s (arXiv:1512.00567, section 7; z-loss: arXiv:2204.02311, section 5)

        l = lse - (1 - s) logits_y - s mean(logits) + z lse^2,    lse = ln sum_j exp(logits_j)

    times w, the token's weight, where weights are given: answers count, prompts a little or not at all.

    Tokens whose target is ``ignore_index``, or whose weight is 0, have loss 0 and no gradient, whatever their logits.
    reduction: "sum"; "mean", the sum over ``denominator``, which unless given is the sum of the weights that count, or
    the number of tokens that do (micro-batches of one step share the step's); "none", each token's own. With no token
    that counts the mean is 0.

    Shapes: logits (..., V), targets (...) of whole numbers, weights (...) of numbers -> () or, for "none", (...);
    vjp: dy -> dlogits (..., V); weights are constants.
    float16 logits: computed in float32, the gradient is float16 again. Raises UserError for a target outside range(V).

    Backward. dlse/dlogits_j = softmax_j = p_j, so for each token

        dl/dlogits_j = (1 + 2 z lse) p_j - (1 - s) [j = y] - s / V

    and w times that: every token's loss is linear in its weight.
    """
    vocabulary = logits.shape[-1]
    x = logits.reshape(-1, vocabulary)
    x = x.astype(np.float32) if x.dtype == np.float16 else x
    share = _shares(targets, ignore_index, weights, x.real.dtype)
    valid, target = share != 0, _checked(targets.reshape(-1), share, ignore_index, vocabulary)
    row = np.arange(len(target))

    # Everything but lse itself is the same for shifted logits, so the largest may be 0: no overflow, and no
    # cancellation between lse and the target's logit where the model is sure.
    peak = np.max(x.real, axis=-1, keepdims=True)
    shifted = x - peak
    weights = np.exp(shifted)
    total = np.sum(weights, axis=-1)
    shifted_lse = np.log(total)
    lse = shifted_lse + peak[:, 0]
    loss = shifted_lse - (1.0 - label_smoothing) * shifted[row, target]
    if label_smoothing:
        loss = loss - label_smoothing * np.mean(shifted, axis=-1)
    if z_loss:
        loss = loss + z_loss * lse * lse
    loss = np.where(valid, loss, 0.0) * share
    if denominator is None:
        denominator = float(np.sum(share)) or 1.0

    def vjp(dy):
        dy = dy / denominator if reduction == "mean" else dy
        dloss = np.broadcast_to(dy, targets.shape).reshape(-1) * share
        dx = weights * (dloss * (1.0 + 2.0 * z_loss * lse) / total)[:, None]
        dx[row, target] -= (1.0 - label_smoothing) * dloss
        if label_smoothing:
            dx -= (label_smoothing / vocabulary) * dloss[:, None]
        return dx.reshape(logits.shape).astype(logits.dtype, copy=False)

    return _reduced(loss, targets.shape, denominator, reduction), vjp


@stored_once(value=False)
def linear_cross_entropy(
    x,
    weight,
    targets,
    softcap=0.0,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    denominator=None,
    reduction="mean",
    chunk=1024,
    weights=None,
):
    """The output head and its cross-entropy in one, with the logits of ``chunk`` tokens in memory at a time.

        l = cross_entropy(c tanh(x W^T / c), targets)        without the tanh where softcap c is 0

    With a vocabulary of 100,000 the logits are by far the largest array of a step (arXiv:2411.09009, section 1); no
    token's loss depends on another's, so they need never exist all at once.

    Shapes: x (..., d), weight W (V, d), targets (...) of whole numbers -> () or, for reduction "none", (...).
    vjp: dy -> dx (..., d), dweight (V, d). The other arguments and errors are those of ``cross_entropy``; ``weight`` is
    the matrix, ``weights`` (...) are the tokens'.

    Backward: the logits of each chunk are computed again, and their gradient is handed on at once,

        dx_n = dlogits_n W        dW = sum over the chunks of dlogits^T x
    """
    rows, labels = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    parts = [slice(start, start + chunk) for start in range(0, max(1, len(rows)), chunk)]
    share = None if weights is None else weights.reshape(-1)
    if denominator is None:
        denominator = float(np.sum(_shares(targets, ignore_index, weights, x.real.dtype))) or 1.0

    def losses(part):
        """Each token's loss in one chunk; vjp: dloss -> dx, dweight."""
        cap_vjp = None
        logits, linear_vjp = linear(rows[part], weight)
        if softcap:
            logits, cap_vjp = bend(logits, softcap)
        own = None if share is None else share[part]
        loss, loss_vjp = cross_entropy(
            logits, labels[part], ignore_index, label_smoothing, z_loss, reduction="none", weights=own
        )

        def vjp(dloss):
            dlogits = loss_vjp(dloss)
            return linear_vjp(dlogits if cap_vjp is None else cap_vjp(dlogits))[:2]

        return loss, vjp

    def vjp(dy):
        dy = dy / denominator if reduction == "mean" else dy
        dloss = np.broadcast_to(dy, targets.shape).reshape(-1)
        dx, dweight = [], 0.0
        for part in parts:
            dx_part, dweight_part = losses(part)[1](dloss[part])
            dx.append(dx_part)
            dweight = dweight + dweight_part
        return np.concatenate(dx).reshape(x.shape), dweight

    loss = np.concatenate([losses(part)[0] for part in parts])
    return _reduced(loss, targets.shape, denominator, reduction), vjp


def _shares(targets, ignore_index, weights, dtype):
    """What each token counts (n,): its weight, or 1; 0 where its target is ignored."""
    valid = (targets != ignore_index).reshape(-1)
    return valid if weights is None else valid * weights.reshape(-1).astype(dtype)


def _checked(targets, share, ignore_index, vocabulary):
    """The targets (n,), with 0 where they don't count."""
    target = np.where(share != 0, targets, 0)
    if target.size and (target.min() < 0 or target.max() >= vocabulary):
        wrong = target[(target < 0) | (target >= vocabulary)][0]
        raise UserError(
            f"target {wrong} is outside the vocabulary of {vocabulary}; targets go from 0 to {vocabulary - 1}, "
            f"or are {ignore_index} to be ignored"
        )
    return target


def _reduced(loss, shape, denominator, reduction):
    if reduction == "none":
        return loss.reshape(shape)
    if reduction not in ("mean", "sum"):
        raise UserError(f'reduction={reduction!r} is not allowed; it must be "mean", "sum" or "none"')
    return np.sum(loss) / denominator if reduction == "mean" else np.sum(loss)
