"""Gradients of any loss over a batch that is too large for the memory."""

import torch

from numpy_ref.errors import UserError
from torch_impl.training.step import compute_dtype


def accumulated(params, size, part, model_config, train_config, scale=1.0):
    """(loss, name -> gradient, list of what each part has seen) of ``size`` items in ``accumulate`` equal parts.

    ``part(weights, rows)`` -> (loss, seen): what the slice ``rows`` adds to the loss of the whole, a tensor that autograd
    knows; ``weights`` are leaves in the format in which the step computes (``compute_dtype``). Gradients arrive in that of
    the parameters, summed there; ``scale`` multiplies the loss and is divided out of them. UserError for unequal parts.
    """
    if size % train_config.accumulate:
        raise UserError(f"accumulate={train_config.accumulate} does not divide the batch of {size}; take a divisor")
    dtype = compute_dtype(params, model_config, train_config)
    leaves = {name: param.detach().to(dtype).requires_grad_() for name, param in params.items()}
    step, total, sums, seen = size // train_config.accumulate, None, None, []
    for first in range(0, size, step):
        loss, more = part(leaves, slice(first, first + step))
        grads = torch.autograd.grad(loss * scale if scale != 1 else loss, list(leaves.values()), materialize_grads=True)
        grads = [grad.to(param.dtype) for grad, param in zip(grads, params.values())]
        seen.append(more)
        if sums is None:
            total, sums = loss.detach(), grads
        else:
            total += loss.detach()
            torch._foreach_add_(sums, grads)
    if scale != 1:
        torch._foreach_div_(sums, scale)
    return total, dict(zip(leaves, sums)), seen
