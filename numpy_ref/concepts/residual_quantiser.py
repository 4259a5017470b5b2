"""Concepts as a few numbers: residual vector quantisation (arXiv:2107.03312, section III.C; arXiv:2412.08821, section 2.4).

The first codebook says about where a vector lies, each further one corrects what is left. With J codebooks of K entries
J log2 K bits name K^J places.
"""

import numpy as np

from numpy_ref.errors import UserError


def quantise(x, codebooks):
    """The codes of vectors, one codebook after the other.

        code_j = argmin_k ||r_j - C_jk||^2,   r_0 = x,   r_{j+1} = r_j - C_j[code_j]

    Of equally near entries the first. Greedy: better combinations may exist.

    Shapes: x (..., c), codebooks (J, K, c) -> (..., J) int64. No vjp: a choice has no derivative.
    """
    left, codes = x, []
    for codebook in codebooks:
        codes.append(_nearest(left, codebook))
        left = left - codebook[codes[-1]]
    return np.stack(codes, axis=-1)


def _nearest(x, codebook):
    """Number of the nearest entry: x (..., c), codebook (K, c) -> (...)."""
    apart = x[..., None, :] - codebook
    return np.argmin(np.sum(apart * apart, axis=-1), axis=-1)


def partial_sums(codes, codebooks):
    """What the codes say so far: before the first codebook, after it, ... after the last.

        y_0 = 0,   y_{j+1} = y_j + C_j[code_j]

    The last one is the quantised vector.

    Shapes: codes (..., J) of whole numbers below K, codebooks (J, K, c) -> (..., J + 1, c);
    vjp: dy -> dcodebooks.

    Backward. Entry C_j[k] is in every sum behind j, of each vector whose code j is k:

        dC_jk = sum over vectors with code_j = k, over i > j, of dy_i
    """
    count, entries, width = codebooks.shape
    rows = codes + entries * np.arange(count)  # in the table of all codebooks' entries
    chosen = codebooks.reshape(-1, width)[rows]
    y = np.concatenate([np.zeros_like(chosen[..., :1, :]), np.cumsum(chosen, axis=-2)], axis=-2)

    def vjp(dy):
        dchosen = np.cumsum(dy[..., :0:-1, :], axis=-2)[..., ::-1, :]
        dcodebooks = np.zeros_like(codebooks, shape=(count * entries, width))
        np.add.at(dcodebooks, rows, dchosen)
        return dcodebooks.reshape(codebooks.shape)

    return y, vjp


def straight_through(x, quantised):
    """The quantised vector, with the gradient that x would have (arXiv:1711.00937, section 3.2).

    Shapes: (..., c) -> (..., c), equal to ``quantised``;  vjp: dy -> dx = dy.
    """

    def vjp(dy):
        return dy.copy()

    return quantised.astype(x.dtype), vjp


def fit_codebooks(x, starts, iterations=20):
    """Codebooks by k-means, each on what those before it have left (Lloyd's algorithm).

    Every entry begins as one of the vectors and moves to the mean of those it is nearest to, ``iterations`` times. One
    that is nearest to none stays where it is.

    Shapes: x (n, c), starts (J, K): numbers of the vectors that the entries of each codebook begin with -> (J, K, c).
    Raises UserError for starts that are no numbers of vectors.
    """
    if starts.size and (starts.min() < 0 or starts.max() >= len(x)):
        raise UserError(f"a codebook begins with vectors 0 to {len(x) - 1}; starts go from {starts.min()} to {starts.max()}")
    codebooks, left = [], x
    for first in starts:
        codebook = left[first]
        for _ in range(iterations):
            codes, total, count = _nearest(left, codebook), np.zeros_like(codebook), np.zeros(len(codebook))
            np.add.at(total, codes, left)
            np.add.at(count, codes, 1)
            mean = total / np.maximum(count, 1).astype(x.dtype)[:, None]
            codebook = np.where(count[:, None] > 0, mean, codebook)
        codebooks.append(codebook)
        left = left - codebook[_nearest(left, codebook)]
    return np.stack(codebooks)
