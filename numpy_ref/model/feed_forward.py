"""The feed-forward network of a block: each position on its own."""

from numpy_ref.model.activations import activation as apply_activation
from numpy_ref.model.linear import linear


def feed_forward(x, params, activation="gelu"):
    """Widen, bend, narrow (arXiv:1706.03762, eq. 2, with a free choice of the non-linearity).

        y = f(x U^T + a) D^T + b

    params: "up.weight" U (f, d), "up.bias" a (f,), "down.weight" D (d, f), "down.bias" b (d,); biases may be absent.
    activation: "gelu", "gelu_tanh" or "relu".

    Shapes: x (..., d) -> y (..., d);  vjp: dy (..., d) -> dx (..., d), dparams with the keys of params.

    Backward: the three steps in reverse.
    """
    hidden, up_vjp = linear(x, params["up.weight"], params.get("up.bias"))
    bent, activation_vjp = apply_activation(activation, hidden)
    y, down_vjp = linear(bent, params["down.weight"], params.get("down.bias"))

    def vjp(dy):
        grads = {}
        dbent, grads["down.weight"], grads["down.bias"] = down_vjp(dy)
        dhidden = activation_vjp(dbent)
        dx, grads["up.weight"], grads["up.bias"] = up_vjp(dhidden)
        return dx, {name: grads[name] for name in params}

    return y, vjp
