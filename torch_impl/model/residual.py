"""The stream that every block adds to."""


def residual(x, branch):
    """Residual connection (arXiv:1512.03385, eq. 1): x + branch. Shapes: (...), (...) -> (...)."""
    return x + branch
