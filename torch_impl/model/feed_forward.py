"""The position-wise network of a block."""

from torch_impl.model.activations import activation as nonlinearity
from torch_impl.model.linear import linear


def feed_forward(x, params, activation="gelu"):
    """Two linear maps with a non-linearity between ("Attention Is All You Need" §3.3).

        y = down(activation(up(x)))

    Shapes: x (..., d), up.weight (f, d), up.bias (f,)?, down.weight (d, f), down.bias (d,)? -> (..., d).
    """
    hidden = nonlinearity(activation, linear(x, params["up.weight"], params.get("up.bias")))
    return linear(hidden, params["down.weight"], params.get("down.bias"))
