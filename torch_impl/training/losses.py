"""What training minimises."""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from numpy_ref.errors import UserError


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
    """Cross-entropy of the next token in nats, with label smoothing (arXiv:1512.00567 §7) and z-loss (arXiv:2204.02311
    §5). With lse = logsumexp(logits), s = label_smoothing, z = z_loss, for each token whose target is not ignored:

        loss = lse - (1 - s) logits[target] - s mean(logits) + z lse^2

    times the token's weight, where there are weights: constants, of which 0 is the same as an ignored target.

    Shapes: logits (..., V), targets (...) integers, weights (...) -> () for reduction "mean" (sum / denominator, which
    is the weight or the number of valid tokens unless given; without any 0, with zero gradients) and "sum", (...) for
    "none" (ignored tokens: 0). 16-bit logits are computed on in float32, so that the loss is float32; their gradient is
    16-bit.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    rows, labels = rows.float() if rows.itemsize == 2 else rows, targets.reshape(-1).long()
    each = reduction == "none" or weights is not None
    if weights is not None:
        weights = weights.reshape(-1).to(rows.dtype)
        labels = labels.where(weights != 0, ignore_index)
    # PyTorch's smoothing is the formula above; summed, because its mean over no token would be 0/0.
    inner = "none" if each else "sum"
    loss = F.cross_entropy(rows, labels, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=inner)
    if z_loss:
        squares = torch.where(labels != ignore_index, torch.logsumexp(rows, -1) ** 2, 0)
        loss = loss + z_loss * (squares if each else squares.sum())
    if weights is not None:
        loss = loss * weights
    if reduction == "none":
        return loss.view(targets.shape)
    loss = loss.sum() if each else loss
    if reduction == "sum":
        return loss
    return loss / (_total(labels, ignore_index, weights) if denominator is None else denominator)


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
    """``cross_entropy`` of the logits x weight^T, softcapped if asked, of which ``chunk`` tokens' exist at a time
    (the idea of arXiv:2410.10989 §3.2, "fused linear cross-entropy").

    Shapes: x (..., d), weight (V, d), targets (...) integers, weights (...) -> () or (...), as ``cross_entropy``. In 16
    bits the loss is float32, and the gradient of the weight is summed over the chunks in float32. With weights, tokens
    that don't count are left out before the matrix product: they are most of a batch where prompts are long.

    One scalar loss has its gradients made during the forward pass, up to a factor: the logits are then computed once.
    "none" has one factor for each token, known only in the backward pass, which computes the logits again.
    """
    if reduction not in ("mean", "sum", "none"):
        raise UserError(f'reduction={reduction!r} is unknown; choose "mean", "sum" or "none"')
    rows, labels = x.reshape(-1, x.shape[-1]), targets.reshape(-1).long()
    kept = None
    if weights is not None:
        weights = weights.reshape(-1)
        kept = torch.nonzero((labels != ignore_index) & (weights != 0))[:, 0]
        rows, labels, weights = rows[kept], labels[kept], weights[kept].to(_wide(x.dtype))
    settings = softcap, ignore_index, label_smoothing, z_loss
    each, learning = reduction == "none", torch.is_grad_enabled()
    loss = _LinearCrossEntropy.apply(rows, weight, labels, settings, each, chunk, learning, weights)
    if each:
        loss = loss if kept is None else loss.new_zeros(targets.numel()).index_copy(0, kept, loss)
        return loss.view(targets.shape)
    if reduction == "sum":
        return loss
    return loss / (_total(labels, ignore_index, weights) if denominator is None else denominator)


def _total(labels, ignore_index, weights):
    """The sum of the weights, or the number, of the tokens that count; 1 for 0. A tensor: nothing waits for the device."""
    counts = labels != ignore_index
    if weights is None:
        return counts.sum().clamp(min=1)
    total = weights.where(counts, 0).sum()
    return total.where(total != 0, 1)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the losses, or each of them. Gradients wait undivided: in float16 a share of one token in thousands would
    vanish, and the loss scale comes only with dy."""

    @staticmethod
    def forward(ctx, x, weight, labels, settings, each, chunk, learning, shares):
        ctx.settings, ctx.each, ctx.chunk = settings, each, chunk
        now = learning and not each
        losses, dx, dweight = [], torch.empty_like(x) if now else None, _wide_zeros(weight) if now else None
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            own = None if shares is None else shares[part]
            loss, dlogits = _chunk_losses(x[part], weight, labels[part], settings, now, own)
            losses.append(loss if each else loss.sum())
            if now:
                torch.mm(dlogits, weight, out=dx[part])
                _add_product(dweight, dlogits, x[part])
        ctx.save_for_backward(*((x, weight, labels, shares) if each else (dx, dweight)))
        ctx.dtype = weight.dtype
        if not losses:
            return _wide_zeros(x[:, 0]) if each else _wide_zeros(x).sum()
        return torch.cat(losses) if each else torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        if not ctx.each:
            dx, dweight = ctx.saved_tensors
            # A factor of its own: a number beside a 16-bit tensor would be rounded to 16 bits first.
            return (dx * dy.to(dweight.dtype).expand(1)).to(dx.dtype), (dweight * dy).to(ctx.dtype), *[None] * 6
        x, weight, labels, shares = ctx.saved_tensors
        dx, dweight = torch.empty_like(x), _wide_zeros(weight)
        for start in range(0, len(x), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            own = dy[part] if shares is None else dy[part] * shares[part]
            _, dlogits = _chunk_losses(x[part], weight, labels[part], ctx.settings, True, own)
            torch.mm(dlogits, weight, out=dx[part])
            _add_product(dweight, dlogits, x[part])
        return dx, dweight.to(ctx.dtype), *[None] * 6


def _chunk_losses(x, weight, labels, settings, learning, shares=None):
    """Losses (n,) of one chunk and, if learning, their gradient (n, V) in x's format; both times shares (n,), if given.

        dl/dlogit_j = (1 + 2 z lse) p_j - (1 - s) [j = target] - s / V        and through the softcap 1 - tanh^2
    """
    softcap, ignore_index, smoothing, z_loss = settings
    logits = F.linear(x, weight)
    logits = logits.float() if logits.itemsize == 2 else logits
    bent = softcap * torch.tanh(logits / softcap) if softcap else logits
    counts = labels != ignore_index
    target = labels.where(counts, 0)[:, None]
    peak = bent.amax(-1, keepdim=True)
    # Everything but lse itself is the same for shifted logits, and a sure target costs no digits. In place where nobody
    # asks for the logits again: they are the largest array of a step.
    shifted = bent - peak if softcap else bent.sub_(peak)
    loss = -(1 - smoothing) * shifted.gather(-1, target)[:, 0]
    if smoothing:
        loss -= smoothing * shifted.mean(-1)
    p = shifted.exp_()
    total = p.sum(-1)
    loss += total.log()
    lse = total.log() + peak[:, 0]
    if z_loss:
        loss += z_loss * lse * lse
    shares = counts.to(p.dtype) if shares is None else shares.where(counts, 0)
    loss = loss.where(shares != 0, 0) * shares
    if not learning:
        return loss, None
    p *= ((1 + 2 * z_loss * lse) / total)[:, None]
    p.scatter_add_(-1, target, p.new_full(target.shape, smoothing - 1))
    if smoothing:
        p -= smoothing / p.shape[-1]
    if softcap:
        e = torch.exp(logits.abs_().mul_(-2 / softcap))
        p *= 4 * e / (1 + e) ** 2  # 1 - tanh^2, which would cancel far out
    return loss, (p * shares[:, None]).to(x.dtype)


def _wide(dtype):
    """float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def _wide_zeros(like):
    return torch.zeros(like.shape, dtype=_wide(like.dtype), device=like.device)


def _add_product(total, dlogits, x):
    """total += dlogits^T x, in the format of total."""
    if dlogits.dtype == total.dtype:
        total.addmm_(dlogits.mT, x)
    elif dlogits.is_cuda:
        total += torch.mm(dlogits.mT, x, out_dtype=total.dtype)
    elif dlogits.dtype == torch.float16:  # a sum over many tokens may pass its largest number, 65504
        total.addmm_(dlogits.mT.float(), x.float())
    else:
        total += dlogits.mT @ x
