"""Layer norm."""

import numpy as np


def layer_norm(x, weight, bias=None, eps=1e-5):
    """Layer normalisation over the last axis (arXiv:1607.06450, eq. 3 and 4).

        n = (x - mean(x)) / r,    r = sqrt(mean((x - mean(x))^2) + eps)
        y = n * weight + bias

    Shapes: x (..., d), weight (d,), bias (d,) or None -> y (..., d).
    vjp: dy (..., d) -> dx (..., d), dweight (d,), dbias (d,) or None.

    Backward. Write c = x - mean(x), v = mean(c^2), so r = sqrt(v + eps) and n = c / r; let dn = dy * weight.

        dr = sum(dn * dn/dr) = -sum(dn * c) / r^2 = -sum(dn * n) / r
        r changes with c by dr/dc = c / (d r) = n / d, so
        dc = dn / r + dr * n / d = (dn - n * mean(dn * n)) / r
        x changes c by the identity minus the mean, which is its own transpose:
        dx = dc - mean(dc) = (dn - mean(dn) - n * mean(dn * n)) / r,    as mean(n) = 0.

        dweight = sum(dy * n)        dbias = sum(dy)        (over all leading axes)
    """
    centred = x - np.mean(x, axis=-1, keepdims=True)  # the mean first: mean(x^2) - mean(x)^2 cancels
    r = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    n = centred / r
    y = n * weight
    if bias is not None:
        y = y + bias

    def vjp(dy):
        dn = dy * weight
        dx = dn - np.mean(dn, axis=-1, keepdims=True)
        dx -= n * np.mean(dn * n, axis=-1, keepdims=True)
        dx /= r
        d = x.shape[-1]
        dweight = np.sum((dy * n).reshape(-1, d), axis=0)
        dbias = None if bias is None else np.sum(dy.reshape(-1, d), axis=0)
        return dx, dweight, dbias

    return y, vjp
