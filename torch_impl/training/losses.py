"""What training minimises."""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from numpy_ref.errors import UserError


def cross_entropy(
    logits, targets, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, denominator=None, reduction="mean"
):
    """Cross-entropy of the next token in nats, with label smoothing (arXiv:1512.00567 §7) and z-loss (arXiv:2204.02311
    §5). With lse = logsumexp(logits), s = label_smoothing, z = z_loss, for each token whose target is not ignored:

        loss = lse - (1 - s) logits[target] - s mean(logits) + z lse^2

    Shapes: logits (..., V), targets (...) integers -> () for reduction "mean" (sum / denominator, which is the number
    of valid tokens unless given; without any valid token 0, with zero gradients) and "sum", (...) for "none" (ignored
    tokens: 0). 16-bit logits are computed on in float32, so that the loss is float32; their gradient is 16-bit.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    rows, labels = rows.float() if rows.itemsize == 2 else rows, targets.reshape(-1).long()
    # PyTorch's smoothing is the formula above; summed, because its mean over no token would be 0/0.
    inner = "none" if reduction == "none" else "sum"
    loss = F.cross_entropy(rows, labels, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=inner)
    if z_loss:
        squares = torch.where(labels != ignore_index, torch.logsumexp(rows, -1) ** 2, 0)
        loss = loss + z_loss * (squares if reduction == "none" else squares.sum())
    if reduction == "none":
        return loss.view(targets.shape)
    if reduction == "sum":
        return loss
    if denominator is None:
        denominator = (labels != ignore_index).sum().clamp(min=1)  # a tensor: counting does not wait for the device
    return loss / denominator


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
):
    """``cross_entropy`` of the logits x weight^T, softcapped if asked, of which ``chunk`` tokens' exist at a time
    (the idea of arXiv:2410.10989 §3.2, "fused linear cross-entropy").

    Shapes: x (..., d), weight (V, d), targets (...) integers -> () or (...), as ``cross_entropy``. In 16 bits the loss
    is float32, and the gradient of the weight is summed over the chunks in float32.

    One scalar loss has its gradients made during the forward pass, up to a factor: the logits are then computed once.
    "none" has one factor for each token, known only in the backward pass, which computes the logits again.
    """
    if reduction not in ("mean", "sum", "none"):
        raise UserError(f'reduction={reduction!r} is unknown; choose "mean", "sum" or "none"')
    rows, labels = x.reshape(-1, x.shape[-1]), targets.reshape(-1).long()
    settings = softcap, ignore_index, label_smoothing, z_loss
    each, learning = reduction == "none", torch.is_grad_enabled()
    loss = _LinearCrossEntropy.apply(rows, weight, labels, settings, each, chunk, learning)
    if each:
        return loss.view(targets.shape)
    if reduction == "sum":
        return loss
    if denominator is None:
        denominator = (labels != ignore_index).sum().clamp(min=1)
    return loss / denominator


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the losses, or each of them. Gradients wait undivided: in float16 a share of one token in thousands would
    vanish, and the loss scale comes only with dy."""

    @staticmethod
    def forward(ctx, x, weight, labels, settings, each, chunk, learning):
        ctx.settings, ctx.each, ctx.chunk = settings, each, chunk
        now = learning and not each
        losses, dx, dweight = [], torch.empty_like(x) if now else None, _wide_zeros(weight) if now else None
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            loss, dlogits = _chunk_losses(x[part], weight, labels[part], settings, now)
            losses.append(loss if each else loss.sum())
            if now:
                torch.mm(dlogits, weight, out=dx[part])
                _add_product(dweight, dlogits, x[part])
        ctx.save_for_backward(*((x, weight, labels) if each else (dx, dweight)))
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
            return (dx * dy.to(dweight.dtype).expand(1)).to(dx.dtype), (dweight * dy).to(ctx.dtype), *[None] * 5
        x, weight, labels = ctx.saved_tensors
        dx, dweight = torch.empty_like(x), _wide_zeros(weight)
        for start in range(0, len(x), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            _, dlogits = _chunk_losses(x[part], weight, labels[part], ctx.settings, True, dy[part])
            torch.mm(dlogits, weight, out=dx[part])
            _add_product(dweight, dlogits, x[part])
        return dx, dweight.to(ctx.dtype), *[None] * 5


def _chunk_losses(x, weight, labels, settings, learning, dy=None):
    """Losses (n,) of one chunk and, if learning, their gradient (n, V), times dy (n,) where given, in x's format.

        dl/dlogit_j = (1 + 2 z lse) p_j - (1 - s) [j = target] - s / V        and through the softcap 1 - tanh^2
    """
    softcap, ignore_index, smoothing, z_loss = settings
    logits = F.linear(x, weight)
    logits = logits.float() if logits.itemsize == 2 else logits
    bent = softcap * torch.tanh(logits / softcap) if softcap else logits
    counts = labels != ignore_index
    target = labels.where(counts, 0)[:, None]
    peak = bent.amax(-1, keepdim=True)
    shifted = bent - peak  # everything but lse itself is the same, and a sure target costs no digits
    loss = -(1 - smoothing) * shifted.gather(-1, target)[:, 0]
    if smoothing:
        loss -= smoothing * shifted.mean(-1)
    p = shifted.exp_()
    total = p.sum(-1)
    loss += total.log()
    lse = total.log() + peak[:, 0]
    if z_loss:
        loss += z_loss * lse * lse
    loss = loss.where(counts, 0)
    if not learning:
        return loss, None
    p *= ((1 + 2 * z_loss * lse) / total)[:, None]
    p.scatter_add_(-1, target, p.new_full(target.shape, smoothing - 1))
    if smoothing:
        p -= smoothing / p.shape[-1]
    if softcap:
        e = torch.exp(logits.abs_().mul_(-2 / softcap))
        p *= 4 * e / (1 + e) ** 2  # 1 - tanh^2, which would cancel far out
    factor = counts.to(p.dtype) if dy is None else dy.where(counts, 0)
    return loss, (p * factor[:, None]).to(x.dtype)


def _wide_zeros(like):
    """Zeros in float32 or better."""
    return torch.zeros(like.shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)


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
