"""The feed-forward network of a block: each position on its own."""

from numpy_ref.config import GATED
from numpy_ref.model.activations import activation as apply_activation
from numpy_ref.model.linear import linear


def feed_forward(x, params, activation="gelu"):
    """Widen, bend, narrow (arXiv:1706.03762, eq. 2, with a free choice of the non-linearity).

        y = f(x U^T + a) D^T + b

    Gated activations (arXiv:2002.05202) take 2f features and return f: there U is "gate_up", twice as high.

    params: "up.weight" U (f, d), "up.bias" a (f,), or "gate_up.weight" (2f, d), "gate_up.bias" (2f,);
    "down.weight" D (d, f), "down.bias" b (d,); biases may be absent. activation: one of ``config.ACTIVATIONS``.

    Shapes: x (..., d) -> y (..., d);  vjp: dy (..., d) -> dx (..., d), dparams with the keys of params.

    Backward: the three steps in reverse.
    """
    up = "gate_up" if activation in GATED else "up"
    hidden, up_vjp = linear(x, params[f"{up}.weight"], params.get(f"{up}.bias"))
    bent, activation_vjp = apply_activation(activation, hidden)
    y, down_vjp = linear(bent, params["down.weight"], params.get("down.bias"))

    def vjp(dy):
        grads = {}
        dbent, grads["down.weight"], grads["down.bias"] = down_vjp(dy)
        dhidden = activation_vjp(dbent)
        dx, grads[f"{up}.weight"], grads[f"{up}.bias"] = up_vjp(dhidden)
        return dx, {name: grads[name] for name in params}

    return y, vjp
