"""Softmax and its logarithm, safe for scores of any size."""

import numpy as np

from numpy_ref.precision import stored_once


@stored_once
def softmax(x):
    """Positive weights that sum to one over the last axis.

        y_i = exp(x_i - m) / sum_j exp(x_j - m),    m = max(x)

    Subtracting m changes nothing (it cancels) but keeps exp from overflowing. Where a whole row is -inf nothing can
    be chosen: its weights are 0, and so is its gradient.

    Shapes: x (..., n) -> y (..., n);  vjp: dy (..., n) -> dx (..., n).

    Backward. dy_i/dx_j = y_i ([i = j] - y_j), so

        dx_j = sum_i dy_i y_i ([i = j] - y_j) = y_j (dy_j - sum_i dy_i y_i)
    """
    y, total = _exponentials(x)
    y /= np.where(total.real == 0, 1.0, total)

    def vjp(dy):
        dx = dy - np.sum(dy * y, axis=-1, keepdims=True)
        dx *= y
        return dx

    return y, vjp


def log_softmax(x):
    """Logarithm of the softmax, without the rounding of a weight close to 0 or 1.

        y_i = x_i - m - ln sum_j exp(x_j - m),    m = max(x)

    A row that is all -inf stays so, and has no gradient.

    Shapes: x (..., n) -> y (..., n);  vjp: dy (..., n) -> dx (..., n).

    Backward. dy_i/dx_j = [i = j] - softmax(x)_j, so

        dx_j = dy_j - softmax(x)_j sum_i dy_i
    """
    exponentials, total = _exponentials(x)
    visible = total.real != 0
    total = np.where(visible, total, 1.0)
    y = x - _peak(x) - np.log(total)

    def vjp(dy):
        dx = dy - exponentials / total * np.sum(dy, axis=-1, keepdims=True)
        dx *= visible
        return dx

    return y, vjp


def _peak(x):
    """Largest entry of each row, 0 where all are -inf: -inf - -inf would be NaN."""
    peak = np.max(x.real, axis=-1, keepdims=True, initial=-np.inf)
    return np.where(peak == -np.inf, 0.0, peak)


def _exponentials(x):
    """exp(x - m), a new array, and its sum over the last axis (..., 1)."""
    y = x - _peak(x)
    y = np.exp(y, out=y)
    return y, np.sum(y, axis=-1, keepdims=True)
