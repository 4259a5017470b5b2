"""Parity first: a result is compared with the float64 NumPy reference before anything is timed.

The parity suite is the proof; this is the guard at the door of the bench, at the very shapes, number format and flags
that are timed. For every output, with u the unit roundoff of the number format,

    |a - r|_2 <= 16 u slack |r|_2        max |a - r| <= 64 u slack max |r|

and the same shape, the same NaN and infinity pattern, and equality of integers. These are stated bounds, a few times
what correct kernels of this depth show; wrong functions are off by orders of magnitude more.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11, "int64": 0.0}
ROUNDOFF |= {"int8": 2.0**-8, "int4": 2.0**-8}  # quantised weights, computed with in bfloat16
NORM, LARGEST = 16, 64


class ParityError(Exception):
    """A result that is not the reference's. ``parity`` says which output is off and by how many bounds."""

    def __init__(self, parity):
        self.parity = parity
        super().__init__(f"{parity['output']}: {parity['problem']}")


def compare(results, reference, dtype, slack=1.0):
    """{worst: largest error in bounds, output: where, ...}. Raises ParityError when it is above one."""
    bounds = {"norm": NORM * slack * ROUNDOFF[dtype], "largest": LARGEST * slack * ROUNDOFF[dtype]}
    worst = {"worst": 0.0, "output": None, "bounds": bounds}
    if set(results) != set(reference):
        names = ", ".join(sorted(set(results) ^ set(reference)))
        raise ParityError(worst | {"worst": float("inf"), "output": names, "problem": "on one side only"})
    for name, expected in reference.items():
        error, problem = _error(results[name], expected, bounds)
        if error >= worst["worst"]:
            worst |= {"worst": error, "output": name}
        if error > 1:
            raise ParityError(worst | {"problem": problem})
    return worst


def _error(actual, expected, bounds):
    """(error in bounds, what is wrong)."""
    if actual.shape != expected.shape:
        return float("inf"), f"shape {actual.shape}, the reference has {expected.shape}"
    if expected.dtype.kind != "f" or actual.dtype.kind != "f":
        different = int(np.sum(actual != expected))
        return (float("inf"), f"{different} of {expected.size} values differ") if different else (0.0, None)
    finite = np.isfinite(expected)
    if not np.array_equal(np.where(finite, 0, actual), np.where(finite, 0, expected), equal_nan=True):
        return float("inf"), "NaN or infinity in other places than the reference"
    actual, expected = actual[finite], expected[finite]
    if not np.isfinite(actual).all():
        return float("inf"), "not finite where the reference is"
    if not expected.size or np.array_equal(actual, expected):
        return 0.0, None
    difference = actual - expected
    tiny = np.finfo(np.float64).tiny
    by_norm = np.linalg.norm(difference) / max(bounds["norm"] * np.linalg.norm(expected), tiny)
    by_largest = np.abs(difference).max() / max(bounds["largest"] * np.abs(expected).max(), tiny)
    error = float(max(by_norm, by_largest))
    return error, f"{error:.3g} times the bound away from the float64 reference"


def cached(folder, label, make):
    """``make()``, a dict of arrays, kept in ``folder`` so that other processes of a run need not compute it again."""
    if not folder:
        return make()
    path = Path(folder) / (hashlib.sha256(label.encode()).hexdigest()[:24] + ".npz")
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".npz", delete=False) as file:
            np.savez(file, **make())
        os.replace(file.name, path)
    with np.load(path) as stored:
        return dict(stored)
