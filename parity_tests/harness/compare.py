"""Is a result the expected one? Always the *pass* condition is written down, so that NaN fails."""

from dataclasses import dataclass

import numpy as np


class Mismatch(AssertionError):
    """Wrong in kind: shape, number format, NaN or infinity pattern, or a value that must be exact."""


@dataclass(frozen=True)
class Leaf:
    """One array of a result: its values (float64 for every floating format) and the name of its own format."""

    values: np.ndarray
    dtype: str


@dataclass(frozen=True)
class Worst:
    """The largest error of a comparison, in budgets, and where it is."""

    ratio: float = 0.0
    where: str = ""


def compare(path, actual, expected, tolerance, largest=np.inf):
    """Worst error of ``actual`` in budgets. Raises Mismatch where no budget applies.

    tolerance: largest permitted distance, broadcastable to the values; ``largest``: the largest finite number of the
    actual format, beyond which an exact result must have become an infinity.
    """
    same_kind(path, actual, expected)
    a, e = actual.values, expected.values
    if a.size == 0:
        return Worst(0.0, path)
    tolerance = np.broadcast_to(tolerance, e.shape)
    if (np.isnan(a) != np.isnan(e)).any():
        raise Mismatch(f"{path}: NaN pattern differs {_first(a, e, np.isnan(a) != np.isnan(e))}")
    overflows = np.isfinite(e) & (np.abs(e) + tolerance > largest)  # may be the infinity of that sign
    excused = overflows & (a == np.copysign(np.inf, e))
    wrong = ~np.isnan(e) & ~excused & (np.isinf(a) | np.isinf(e)) & ~(a == e)
    if wrong.any():
        raise Mismatch(f"{path}: infinity pattern differs {_first(a, e, wrong)}")
    judged = np.isfinite(a) & np.isfinite(e)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        ratio = np.where(judged & (a != e), np.abs(a - e) / tolerance, 0.0)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)  # a budget that is NaN or 0 permits nothing
    at = np.unravel_index(np.argmax(ratio), ratio.shape)
    return Worst(
        float(ratio[at]), f"{path}{list(map(int, at))}: {a[at]:.9g} instead of {e[at]:.9g} +- {tolerance[at]:.3g}"
    )


def compare_exact(path, actual, expected):
    """0 when both are the same to the last bit; Mismatch otherwise."""
    same_kind(path, actual, expected)
    a, e = actual.values, expected.values
    equal = a == e
    if e.dtype.kind == "f":
        equal = (equal & (np.signbit(a) == np.signbit(e))) | (np.isnan(a) & np.isnan(e))
    if not np.all(equal):
        raise Mismatch(f"{path}: must be equal {_first(a, e, ~np.asarray(equal))}")
    return Worst(0.0, path)


def same_kind(path, actual, expected):
    """Raises Mismatch unless shape and format agree and the arrays are not one and the same memory."""
    if np.shares_memory(actual.values, expected.values):
        raise Mismatch(f"{path}: the two arrays share memory, so comparing them says nothing")
    if actual.values.shape != expected.values.shape:
        raise Mismatch(f"{path}: shape {actual.values.shape} instead of {expected.values.shape}")
    if actual.dtype != expected.dtype:
        raise Mismatch(f"{path}: format {actual.dtype} instead of {expected.dtype}")


def same_paths(actual, expected):
    """Raises Mismatch unless two results have the same parts."""
    if list(actual) != list(expected) and set(actual) != set(expected):
        missing, extra = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
        raise Mismatch(f"the results have other parts: missing {missing}, extra {extra}")


def _first(a, e, where):
    at = np.unravel_index(np.argmax(where), np.shape(where))
    return f"at {list(map(int, at))}: {a[at]} instead of {e[at]} ({np.count_nonzero(where)} of {np.size(where)})"
