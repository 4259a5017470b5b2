"""What training minimises."""

import torch
import torch.nn.functional as F


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
