"""The affine map: most of a model's parameters and nearly all of its arithmetic."""

import numpy as np

from numpy_ref.model.float8 import Float8, float8_linear
from numpy_ref.model.quantization import Quantized, quantized_linear
from numpy_ref.precision import stored_once


@stored_once
def linear(x, weight, bias=None):
    """Affine map of the last axis.

        y = x W^T + b

    A ``Quantized`` weight is used as it is and gets no gradient; a ``Float8`` one is multiplied in 8 bits.

    Shapes: x (..., i), weight W (o, i), bias (o,) or None -> y (..., o).
    vjp: dy (..., o) -> dx (..., i), dweight (o, i), dbias (o,) or None.

    Backward. With the leading axes flattened to rows n, y_no = sum_i x_ni W_oi + b_o, so

        dx_ni = sum_o dy_no W_oi        dx = dy W
        dW_oi = sum_n dy_no x_ni        dW = dy^T x
        db_o  = sum_n dy_no
    """
    if isinstance(weight, Quantized):
        return quantized_linear(x, weight, bias)
    if isinstance(weight, Float8):
        return float8_linear(x, weight.values, bias)
    # One large matrix product is faster than a batch of small ones.
    rows = x.reshape(-1, x.shape[-1])
    y = rows @ weight.T
    if bias is not None:
        y = y + bias

    def vjp(dy):
        dy_rows = dy.reshape(-1, dy.shape[-1])
        dx = (dy_rows @ weight).reshape(x.shape)
        dweight = dy_rows.T @ rows
        dbias = None if bias is None else np.sum(dy_rows, axis=0)
        return dx, dweight, dbias

    return y.reshape(*x.shape[:-1], weight.shape[0]), vjp
