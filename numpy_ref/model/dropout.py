"""Dropout with the mask as an argument: randomness stays outside the arithmetic."""

from numpy_ref.rng import uniform


def dropout(x, keep, rate):
    """Zero some features and scale the others up, so that the mean stays (Srivastava et al. 2014, JMLR 15, section 4).

        y = x * keep / (1 - rate)

    Shapes: x (...), keep (...) bool, True where a feature stays, or None for the identity; rate in [0, 1) -> y (...).
    vjp: dy (...) -> dx (...).

    Backward: y is linear in x with the diagonal keep / (1 - rate), and a diagonal is its own transpose.
    """

    def apply(value):
        return value.copy() if keep is None else value * keep / (1.0 - rate)

    return apply(x), apply


def dropout_mask(seed, stream, shape, rate, offset=0):
    """Which features stay, each with probability 1 - rate: bool of ``shape``, from ``offset`` on in the stream."""
    return uniform(seed, stream, shape, offset) >= rate
