"""Layer norm and RMS norm."""

import numpy as np

from numpy_ref.precision import stored_once


@stored_once
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


@stored_once
def rms_norm(x, weight, eps=1e-6):
    """Root mean square norm (arXiv:1910.07467, eq. 4): a layer norm that does not centre.

        y = x / r * weight,    r = sqrt(mean(x^2) + eps)

    Shapes: x (..., d), weight (d,) -> y (..., d);  vjp: dy (..., d) -> dx (..., d), dweight (d,).

    Backward. With n = x / r and dn = dy * weight: r changes with x by dr/dx = x / (d r) = n / d, and

        dr = -sum(dn * x) / r^2 = -sum(dn * n) / r
        dx = dn / r + dr * n / d = (dn - n * mean(dn * n)) / r        dweight = sum(dy * n)    (over all leading axes)
    """
    r = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    n = x / r

    def vjp(dy):
        dn = dy * weight
        dx = (dn - n * np.mean(dn * n, axis=-1, keepdims=True)) / r
        return dx, np.sum((dy * n).reshape(-1, x.shape[-1]), axis=0)

    return n * weight, vjp


def norm(x, params, kind, eps):
    """The norm that a config names, with its parameters in a dict as the other parts have them.

    params: "weight" (d,), and for layer norms "bias" (d,), which may be absent. kind: "layer" or "rms".

    Shapes: x (..., d) -> y (..., d);  vjp: dy (..., d) -> dx (..., d), dparams with the keys of params.
    """
    if kind == "rms":
        y, rms_vjp = rms_norm(x, params["weight"], eps)

        def vjp(dy):
            dx, dweight = rms_vjp(dy)
            return dx, {"weight": dweight}

        return y, vjp

    y, layer_vjp = layer_norm(x, params["weight"], params.get("bias"), eps)

    def vjp(dy):
        dx, dweight, dbias = layer_vjp(dy)
        grads = {"weight": dweight, "bias": dbias}
        return dx, {name: grads[name] for name in params}

    return y, vjp
