"""Loss and gradients of a batch that goes through the model in parts, for losses of any kind."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.precision import stored


def accumulated(params, size, part, model_config, train_config, scale=1.0):
    """The loss of ``size`` items and its gradients, in ``train_config.accumulate`` equal parts, one after the other.

    ``part(weights, rows)`` -> (loss, vjp, seen): the share of the items in the slice ``rows``, divided by the size of the
    whole, so that the shares add up to the batch's own loss; vjp: dy -> grads of the weights; seen: anything.
    The number format is that of ``params``; with dtype bfloat16 or float16 the weights are rounded to it, and so is what
    comes of them (`precision.py`). ``scale`` multiplies the loss before the backward pass and is divided out after.

    Returns loss (), grads with the keys of params, and the list of what the parts have seen. Raises UserError where the
    parts would not be equal.
    """
    parts = train_config.accumulate
    if size % parts:
        raise UserError(f"a batch of {size} can't be cut into accumulate={parts} equal parts; take a divisor of {size}")
    half = train_config.dtype if train_config.dtype in ("bfloat16", "float16") else None
    weights = {name: stored(param, half) for name, param in params.items()} if half else params
    total, grads, seen = 0.0, None, []
    for first in range(0, size, size // parts):
        loss, vjp, more = part(weights, slice(first, first + size // parts))
        own = {name: np.asarray(grad) / scale for name, grad in vjp(scale).items()}
        total = total + loss
        grads = own if grads is None else {name: grads[name] + grad for name, grad in own.items()}
        seen.append(more)
    return total, grads, seen
