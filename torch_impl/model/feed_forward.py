"""The position-wise network of a block."""

from numpy_ref.config import GATED
from torch_impl.model.activations import activation as nonlinearity
from torch_impl.model.linear import linear


def feed_forward(x, params, activation="gelu"):
    """Two linear maps with a non-linearity between ("Attention Is All You Need" §3.3).

        y = down(activation(up(x)))

    A gated activation halves its input, so its first map, "gate_up", has 2f outputs: one product instead of two.

    Shapes: x (..., d), up.weight (f, d) or gate_up.weight (2f, d), their biases?, down.weight (d, f), down.bias (d,)?
    -> (..., d).
    """
    first = "gate_up" if activation in GATED else "up"
    hidden = nonlinearity(activation, linear(x, params[f"{first}.weight"], params.get(f"{first}.bias")))
    return linear(hidden, params["down.weight"], params.get("down.bias"))
