"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan 2024,
https://kellerjordan.github.io/posts/muon/)."""

import math
from collections import defaultdict

import torch

TORCH_ONLY = {"muon_", "orthogonalise_"}

_A, _B, _C = 3.4445, -4.7750, 2.0315  # steepest at 0, and keeps singular values within about 0.7 to 1.2


def orthogonalise(matrix, steps=5, eps=1e-7):
    """A matrix near U V^T, where matrix = U S V^T, by the quintic Newton-Schulz iteration of the post above.

        X = matrix / max(||matrix||_F, eps)        X <- a X + (b A + c A^2) X,    A = X X^T

    Wide matrices only: tall ones go in transposed, so that A is the smaller Gram matrix.
    Shapes: (..., rows, columns) -> the same, in the matrix's format; leading axes are a batch.
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = (matrix.mT if tall else matrix).reshape(-1, min(matrix.shape[-2:]), max(matrix.shape[-2:]))
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        x = torch.baddbmm(x, polynomial, x, beta=_A)
    return (x.mT if tall else x).reshape(matrix.shape)


def muon(param, grad, state, lr, momentum=0.95, weight_decay=0.0):
    """One step of Muon with Nesterov momentum and AdamW's step size (arXiv:2502.16982, eq. 4).

        buf = momentum buf + (1 - momentum) g        u = (1 - momentum) g + momentum buf
        p = p (1 - lr weight_decay) - lr 0.2 sqrt(max(rows, columns)) orthogonalise(u)

    Shapes: param, grad and the state's "momentum" (..., rows, columns), leading axes a batch. Returns (param, state),
    new.
    """
    buffer = momentum * state["momentum"] + (1 - momentum) * grad
    update = (1 - momentum) * grad + momentum * buffer
    param = param * (1 - lr * weight_decay) - lr * _step_size(param) * orthogonalise(update)
    return param, {"momentum": buffer}


def init_state(param):
    """No momentum."""
    return {"momentum": torch.zeros_like(param)}


def matrices(name, array, params):
    """The matrices that a parameter (or its gradient) stacks along its rows, as views: queries, keys and values of
    "query_key_value", both halves of "gate_up", else the array itself.

    ``params`` tells how many rows the queries have: the attention's output weight has as many columns.
    Shapes: (..., o, i) -> list of (..., o', i), where the o' add up to o.
    """
    if name.endswith("query_key_value.weight"):
        queries = params[name.removesuffix("query_key_value.weight") + "output.weight"].shape[1]
        shared = (array.shape[0] - queries) // 2
        return list(array.split((queries, shared, shared)))
    return list(array.chunk(2, -2)) if name.endswith("gate_up.weight") else [array]


@torch.no_grad()
def muon_(params, grads, states, lr, momentum=0.95, weight_decay=0.0, dtype=None, orthogonal=None):
    """``muon`` on dicts by name, in place. Each parameter is split by ``matrices``.

    Newton-Schulz runs in ``dtype`` if given (the post runs it in bfloat16: it only needs to come near).
    ``orthogonal``: called instead of ``orthogonalise_``, where the parameters are shards of matrices.
    """
    if not params:
        return
    buffers = [states[name]["momentum"] for name in params]
    torch._foreach_lerp_(buffers, [grads[name] for name in params], 1 - momentum)
    torch._foreach_mul_(list(params.values()), 1 - lr * weight_decay)
    updates = {name: torch.lerp(grads[name], buffer, momentum) for name, buffer in zip(params, buffers)}
    (orthogonal or orthogonalise_)(updates, params, dtype)
    torch._foreach_add_(list(params.values()), list(updates.values()), alpha=-lr)


@torch.no_grad()
def orthogonalise_(updates, params, dtype=None):
    """Each matrix of ``updates`` made orthogonal and of AdamW's step size, in place.

    Matrices of one shape are stacked: a few large batched products instead of fifteen small ones for each matrix.
    """
    groups = defaultdict(list)
    for name, update in updates.items():
        for part in matrices(name, update, params):
            groups[part.shape].append(part)
    for group in groups.values():
        orthogonal = orthogonalise(torch.stack(group).to(dtype or group[0].dtype)).to(group[0].dtype)
        torch._foreach_copy_(group, (orthogonal * _step_size(orthogonal)).unbind())


def _step_size(matrix):
    """0.2 sqrt(max(rows, columns)): an orthogonal matrix's elements then have the size of AdamW's steps."""
    return 0.2 * math.sqrt(max(matrix.shape[-2:]))
