"""Lesson 1: chaining backward passes.

The feed-forward network widens, bends and narrows:

    y = f(x U^T + a) D^T + b

params: "up.weight" U (f, d), "up.bias" a (f,), "down.weight" D (d, f), "down.bias" b (d,). Its parts are components, each of
which returns its value and its vjp:

    y, vjp = linear(x, weight, bias);              dx, dweight, dbias = vjp(dy)
    y, vjp = apply_activation(name, x);            dx = vjp(dy)

    x (..., d) -> y (..., d);    vjp: dy (..., d) -> dx (..., d), a dict of gradients with the keys of params

No calculus is needed: that is the point.
"""

from numpy_ref.model.activations import activation as apply_activation
from numpy_ref.model.linear import linear


def feed_forward(x, params, activation="relu"):
    raise NotImplementedError  # y

    def vjp(dy):
        raise NotImplementedError  # dx, {"up.weight": ..., "up.bias": ..., "down.weight": ..., "down.bias": ...}

    return y, vjp
