"""Residual vector quantisation (arXiv:2107.03312 §III.C): vectors to codes and back."""

import torch

from numpy_ref.errors import UserError


def quantise(x, codebooks):
    """Codes by the nearest entry of each codebook to what is left. Shapes: x (..., c), codebooks (J, K, c) -> (..., J)."""
    left = x.reshape(-1, x.shape[-1])
    codes = x.new_empty((len(left), len(codebooks)), dtype=torch.int64)
    for j, codebook in enumerate(codebooks):
        codes[:, j] = _nearest(left, codebook)
        left = left - codebook[codes[:, j]]
    return codes.view(*x.shape[:-1], -1)


def _nearest(x, codebook):
    """Without the expanded square, which would lose the difference of vectors far from 0."""
    return torch.cdist(x, codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)


def partial_sums(codes, codebooks):
    """0, and the sums of the entries that the codes name, codebook by codebook.

    Shapes: codes (..., J), codebooks (J, K, c) -> (..., J + 1, c).
    """
    chosen = codebooks[torch.arange(codes.shape[-1], device=codes.device), codes]
    wide = torch.promote_types(chosen.dtype, torch.float32)
    return torch.nn.functional.pad(chosen.to(wide).cumsum(-2), (0, 0, 1, 0)).to(chosen.dtype)


def straight_through(x, quantised):
    """``quantised`` to the last bit, with the gradient of x (arXiv:1711.00937 §3.2). Shapes: (..., c) -> (..., c)."""
    return _StraightThrough.apply(x, quantised)


class _StraightThrough(torch.autograd.Function):
    """Not x + (quantised - x).detach(), which rounds."""

    @staticmethod
    def forward(ctx, x, quantised):
        return quantised.to(x.dtype, copy=True)

    @staticmethod
    def backward(ctx, dy):
        return dy, None


def fit_codebooks(x, starts, iterations=20):
    """K-means on the vectors, then on what is left of them, and so on.

    Shapes: x (n, c), starts (J, K) numbers of vectors -> (J, K, c). An entry without vectors stays.
    """
    if starts.numel() and (int(starts.min()) < 0 or int(starts.max()) >= len(x)):
        raise UserError(f"starts from {int(starts.min())} to {int(starts.max())} are no numbers of the {len(x)} vectors")
    codebooks, left = [], x
    for first in starts:
        codebook = left[first]
        for _ in range(iterations):
            codes = _nearest(left, codebook)
            count = torch.bincount(codes, minlength=len(codebook))[:, None]
            total = torch.zeros_like(codebook).index_add_(0, codes, left)
            codebook = torch.where(count > 0, total / count.clamp(min=1), codebook)
        codebooks.append(codebook)
        left = left - codebook[_nearest(left, codebook)]
    return torch.stack(codebooks)
