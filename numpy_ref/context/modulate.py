"""A context vector changes a word's vector: through a gate, or by scaling and shifting it."""

import numpy as np

from numpy_ref.model.linear import linear


def gated(x, context, params):
    """How much of the change that the context asks for is let through is decided feature by feature.

        g = sigmoid(Wg [x; c] + b)        y = x + g * (Wu [x; c])

    params: "gate.weight" Wg (d, 2d), "gate.bias" b (d,), "change.weight" Wu (d, 2d).

    Shapes: x, context c (..., d) -> (..., d);  vjp: dy -> dx, dcontext, grads.

    Backward. With the change u:  du = dy * g,    d(g's argument) = dy * u * g * (1 - g); both go back to [x; c].
    """
    both = np.concatenate([x, context], axis=-1)
    z, gate_vjp = linear(both, params["gate.weight"], params["gate.bias"])
    change, change_vjp = linear(both, params["change.weight"])
    g = _sigmoid(z)

    def vjp(dy):
        dboth_gate, dgate, dbias = gate_vjp(dy * change * g * (1.0 - g))
        dboth_change, dchange, _ = change_vjp(dy * g)
        dboth = dboth_gate + dboth_change
        width = x.shape[-1]
        grads = {"gate.weight": dgate, "gate.bias": dbias, "change.weight": dchange}
        return dy + dboth[..., :width], dboth[..., width:], grads

    return x + g * change, vjp


def film(x, context, params):
    """Feature-wise linear modulation (arXiv:1709.07871, eq. 2), the scale counted from 1.

        y = (1 + Ws c) * x + Wb c

    params: "scale.weight" Ws, "shift.weight" Wb (d, d). Without context, c = 0, x stays as it is.

    Shapes: x, context c (..., d) -> (..., d);  vjp: dy -> dx, dcontext, grads.  Backward: d(Ws c) = dy * x, d(Wb c) = dy.
    """
    scale, scale_vjp = linear(context, params["scale.weight"])
    shift, shift_vjp = linear(context, params["shift.weight"])

    def vjp(dy):
        dcontext, dscale, _ = scale_vjp(dy * x)
        dcontext_shift, dshift, _ = shift_vjp(dy)
        return dy * (1.0 + scale), dcontext + dcontext_shift, {"scale.weight": dscale, "shift.weight": dshift}

    return (1.0 + scale) * x + shift, vjp


def _sigmoid(z):
    """1 / (1 + exp(-z)) by the exponential that can't overflow."""
    small = np.exp(np.where(z.real > 0, -z, z))
    return np.where(z.real > 0, 1.0, small) / (1.0 + small)
