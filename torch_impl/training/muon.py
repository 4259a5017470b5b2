"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan 2024,
https://kellerjordan.github.io/posts/muon/)."""

import math
from collections import defaultdict

import torch

TORCH_ONLY = {"muon_"}

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


def matrices(name, param, width):
    """The matrices that a parameter stacks along its rows, as a batch: three (width, width) for "query_key_value",
    whose projections have nothing to do with each other; else the parameter itself.

    Shapes: (o, i) -> (n, o / n, i), a view.
    """
    return param.view(3, width, width) if "query_key_value" in name else param[None]


@torch.no_grad()
def muon_(params, grads, states, lr, momentum=0.95, weight_decay=0.0, dtype=None):
    """``muon`` on dicts by name, in place. Each parameter is split by ``matrices``.

    Matrices of one shape are stacked: a few large batched products instead of fifteen small ones for each matrix.
    Newton-Schulz runs in ``dtype`` if given (the post runs it in bfloat16: it only needs to come near).
    """
    if not params:
        return
    buffers = [states[name]["momentum"] for name in params]
    torch._foreach_lerp_(buffers, [grads[name] for name in params], 1 - momentum)
    torch._foreach_mul_(list(params.values()), 1 - lr * weight_decay)
    groups = defaultdict(list)
    for (name, param), buffer in zip(params.items(), buffers):
        update = torch.lerp(grads[name], buffer, momentum)
        stacks = [matrices(name, x, param.shape[-1]) for x in (param, update)]
        groups[stacks[0].shape[1:]].append(stacks)
    for group in groups.values():
        targets, updates = zip(*group)
        orthogonal = orthogonalise(torch.cat(updates).to(dtype or updates[0].dtype)).to(updates[0].dtype)
        parts = orthogonal.split([len(target) for target in targets])
        torch._foreach_add_(targets, parts, alpha=-lr * _step_size(orthogonal))


def _step_size(matrix):
    """0.2 sqrt(max(rows, columns)): an orthogonal matrix's elements then have the size of AdamW's steps."""
    return 0.2 * math.sqrt(max(matrix.shape[-2:]))
