"""The residual connection: a branch adds to the stream instead of replacing it."""


def residual(x, branch):
    """Sum of the stream and a branch (arXiv:1512.03385, eq. 1).

        y = x + branch

    Shapes: x, branch (...) -> y (...);  vjp: dy (...) -> dx, dbranch (...).

    Backward: the sum hands dy to both, untouched. That is why gradients reach the first layer of a deep stack. Each
    gets a copy of its own, so that no later step on one can change the other.
    """

    def vjp(dy):
        return dy.copy(), dy.copy()

    return x + branch, vjp
