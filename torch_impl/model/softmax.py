"""Scores to probabilities."""

import torch.nn.functional as F


def softmax(x):
    """exp(x) / sum(exp(x)) over the last axis, shifted by the maximum so that nothing overflows.

    A row that is all -inf has no largest entry: it gives zeros, with zero gradients. Shapes: x (..., n) -> (..., n).
    """
    empty = _empty_rows(x)
    return F.softmax(x.masked_fill(empty, 0), -1).masked_fill(empty, 0)


def log_softmax(x):
    """x - log(sum(exp(x))) over the last axis; a row that is all -inf gives -inf, with zero gradients.

    Shapes: x (..., n) -> (..., n).
    """
    empty = _empty_rows(x)
    return F.log_softmax(x.masked_fill(empty, 0), -1).masked_fill(empty, -float("inf"))


def _empty_rows(x):
    return x.detach().amax(-1, keepdim=True) == -float("inf")
