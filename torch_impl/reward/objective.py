"""Losses over rewards of preferred and rejected answers, in float32 or better: a reward model gives nothing less."""

import torch
import torch.nn.functional as F


def bradley_terry(
    chosen, rejected, margin=0.0, ties=None, label_smoothing=0.0, centring=0.0, denominator=None
):
    """-ln P(chosen is preferred), P = sigmoid(z), z = r_c - r_r - margin (arXiv:2203.02155 eq. 1; the margin is that of
    arXiv:2307.09288 eq. 2), with these additions:

        label smoothing s    (1 - s) of the loss above and s of that with the answers exchanged (arXiv:2305.18290, code)
        ties                 s = 1/2 and no margin
        centring c           + c (r_c + r_r)^2, which keeps rewards around 0 (arXiv:2312.09244 §3)

    Shapes: chosen, rejected (B,), margin number or (B,), ties bool (B,) or None -> (), the sum over the pairs divided by
    ``denominator``, which is their number unless given.
    """
    z, against = chosen - rejected - margin, label_smoothing
    if ties is not None:
        z = torch.where(ties, chosen - rejected, z)
        against = torch.full_like(z, label_smoothing).masked_fill(ties, 0.5)
    # logsigmoid, not softplus: PyTorch's softplus is the identity beyond 20, which is wrong from the tenth digit on.
    loss = against * z - F.logsigmoid(z)
    if centring:
        loss = loss + centring * (chosen + rejected).square()
    return loss.sum() / (denominator or len(loss))


def margin_ranking(chosen, rejected, margin=1.0, ties=None, denominator=None):
    """max(0, margin - (r_c - r_r)) (PyTorch's MarginRankingLoss, with one margin a pair if wanted); ties should lie within
    the margin, max(0, |r_c - r_r| - margin). Shapes and divisor: those of ``bradley_terry``."""
    lead = chosen - rejected
    short = margin - lead
    if ties is not None:
        short = torch.where(ties, lead.abs() - margin, short)
    return F.relu(short).sum() / (denominator or len(lead))


def plackett_luce(rewards, mask=None, denominator=None):
    """-ln P(ranking) of lists sorted from best to worst, P = prod_k softmax(r_k, ..., r_K)[k] (arXiv:2305.18290 app. A.3).

    Shapes: rewards (B, K), mask bool (B, K) or None, False behind the end of shorter lists -> (), divided by the number of lists
    or ``denominator``.
    """
    size = rewards.shape[1]
    left = torch.ones(size, size, dtype=torch.bool, device=rewards.device).triu()
    if mask is not None:
        # A place behind the end keeps itself alone: softmax over nobody would be 0/0.
        left = left & mask[:, None, :] | torch.eye(size, dtype=torch.bool, device=rewards.device)
    scores = rewards[:, None, :].masked_fill(~left, -torch.inf)
    won = torch.log_softmax(scores, -1).diagonal(dim1=-2, dim2=-1)
    if mask is not None:
        won = torch.where(mask, won, 0)
    return -won.sum() / (denominator or len(rewards))
