"""Lesson 4: a loss that never holds all logits.

With a vocabulary of 100,000 the logits are the largest array of a training step, and no token's loss depends on another's.
Compute the output head and the mean cross-entropy ``chunk`` tokens at a time:

    l = mean over the tokens that count of cross_entropy(x W^T, targets)        target -100: does not count

    x (n, d), weight W (V, d), targets (n,) -> ();    vjp: dy () -> dx (n, d), dweight (V, d)

The parts are components:

    logits, linear_vjp = linear(x, weight);                                   dx, dweight, _ = linear_vjp(dlogits)
    losses, loss_vjp = cross_entropy(logits, targets, reduction="none");      dlogits = loss_vjp(dlosses)

In the backward pass compute each chunk's logits again, rather than keep them.
"""

import numpy as np

from numpy_ref.model.linear import linear
from numpy_ref.training.losses import cross_entropy


def linear_cross_entropy(x, weight, targets, chunk=1024):
    raise NotImplementedError  # loss

    def vjp(dy):
        raise NotImplementedError  # dx, dweight

    return loss, vjp
