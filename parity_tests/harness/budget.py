"""How far a correct implementation may land from the exact result: computed, never typed by hand.

Monte Carlo arithmetic: the unchanged float64 reference runs on an ndarray subclass that adds a random rounding after
every operation. The spread of eight such runs is what honest low-precision arithmetic does to this very input.
"""

import math
from dataclasses import dataclass

import numpy as np

RUNS = 8
RUNS_ALONE = 16  # where few elements share a budget, so that the errors of eight runs might all happen to cancel
SAFETY = 4.0  # C: correct kernels stay below 2.4 at C = 1, wrong ones are off by 10 to 1e8


@dataclass(frozen=True)
class Precision:
    """Unit roundoffs of storing and of accumulating, the underflow threshold, and the largest finite number."""

    store: float
    accumulate: float
    tiny: float
    largest: float


# float32 and bfloat16 lose at most their smallest normal number to underflow: kernels may flush subnormals. float16 is
# never flushed (its subnormals are normal float32 numbers, in which everything is computed), so there the threshold is
# the spacing of its subnormals; the smallest normal, 6e-5, would hide real errors.
PRECISIONS = {
    "float64": Precision(2.0**-53, 2.0**-53, 2.0**-1022, float(np.finfo(np.float64).max)),
    "float32": Precision(2.0**-24, 2.0**-24, 2.0**-126, float(np.finfo(np.float32).max)),
    "bfloat16": Precision(2.0**-8, 2.0**-24, 2.0**-126, (2 - 2.0**-7) * 2.0**127),
    "float16": Precision(2.0**-11, 2.0**-24, 2.0**-24, 65504.0),
}

# Operations whose result needs no rounding, and functions that only move values about.
EXACT_UFUNCS = {
    np.maximum, np.minimum, np.fmax, np.fmin, np.negative, np.positive, np.absolute, np.sign, np.floor, np.ceil,
    np.trunc, np.rint, np.copysign,
}  # fmt: skip
MOVING = {
    np.concatenate, np.stack, np.split, np.array_split, np.where, np.take, np.take_along_axis, np.put_along_axis,
    np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze, np.broadcast_to,
    np.broadcast_arrays, np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.copy, np.repeat, np.tile, np.roll,
    np.flip, np.pad, np.max, np.min, np.amax, np.amin, np.clip, np.argmax, np.argmin, np.argsort, np.sort, np.lexsort,
    np.any, np.all, np.nonzero, np.count_nonzero, np.flatnonzero, np.searchsorted, np.shape, np.ndim, np.size,
    np.real, np.isrealobj, np.iscomplexobj, np.result_type, np.can_cast, np.may_share_memory, np.shares_memory,
    np.array_equal, np.atleast_1d, np.atleast_2d, np.delete, np.triu, np.tril, np.copyto, np.nan_to_num,
}  # fmt: skip
SUMMING = {np.sum, np.mean, np.cumsum}


class Noisy(np.ndarray):
    """A float64 array whose every operation is rounded at random; ``noisy`` makes the class for a precision."""

    precision = rng = None
    pool, used = np.zeros(0), 0  # random numbers in store

    @classmethod
    def rounded(cls, result, terms=None):
        """``result`` plus one rounding; ``terms``: sum of the absolute values that were added up, if any."""
        result = np.asarray(result)
        size = np.abs(result)
        if not np.isfinite(size).all():
            size = np.where(np.isfinite(size), size, 0.0)
            terms = None if terms is None else np.where(np.isfinite(terms), terms, 0.0)
        error = cls.precision.store * size + cls.precision.tiny * (result != 0)
        if terms is not None:
            error = error + cls.precision.accumulate * terms
        return (result + error * cls._noise(result.shape)).view(cls)

    @classmethod
    def _noise(cls, shape):
        """Half a roundoff to one, up or down, so that eight runs hardly ever all round little. Drawn in bulk."""
        count = math.prod(shape)
        if cls.used + count > len(cls.pool):
            cls.pool = cls.rng.uniform(-0.5, 0.5, max(count, 1 << 13))
            cls.pool += np.copysign(0.5, cls.pool)
            cls.used = 0
        cls.used += count
        return cls.pool[cls.used - count : cls.used].reshape(shape)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method == "at":
            return self._at(ufunc, *inputs)
        inputs, kwargs = plain(inputs), plain(kwargs)
        result = getattr(ufunc, method)(*inputs, **kwargs)
        if not is_float(result):
            return result if out is None else _into(out, result)
        if ufunc in EXACT_UFUNCS:
            result = np.asarray(result).view(type(self))
        else:
            result = self.rounded(result, _terms(ufunc, method, inputs, kwargs))
        return result if out is None else _into(out, result)

    def _at(self, ufunc, target, index, values):
        """``np.add.at``: many values added into one place are a sum."""
        values, inside = plain(values), plain(target)
        sizes = np.abs(inside)
        ufunc.at(inside, index, values)
        if ufunc is np.add and is_float(inside):
            np.add.at(sizes, index, np.abs(values))
            inside[...] = self.rounded(inside, sizes * _growth(np.size(index)))

    def __array_function__(self, function, types, args, kwargs):
        if function not in MOVING and function not in SUMMING:
            raise TypeError(
                f"the budget has no rounding model for np.{function.__name__}; write the reference with ufuncs, "
                "matmul, np.sum and np.mean, or add the function to parity_tests/harness/budget.py"
            )
        out = kwargs.pop("out", None)
        args, kwargs = plain(args), plain(kwargs)
        result = function(*args, **kwargs)
        if function in SUMMING:
            terms = function(np.abs(args[0]), *args[1:], **kwargs) * _growth(np.size(args[0]) / max(1, np.size(result)))
            result = self.rounded(result, terms) if is_float(result) else result
        else:
            result = _noisy_again(result, type(self))
        return result if out is None else _into((out,), result)


def noisy(precision, rng):
    """A class of arrays that round as ``precision`` does, with roundings from ``rng``."""
    return type("Noisy", (Noisy,), {"precision": precision, "rng": rng})


def plain(tree):
    """The same arguments as ordinary arrays."""
    if isinstance(tree, Noisy):
        return tree.view(np.ndarray)
    if isinstance(tree, (list, tuple)):
        return type(tree)(plain(item) for item in tree)
    if isinstance(tree, dict):
        return {name: plain(item) for name, item in tree.items()}
    return tree


def is_float(value):
    return isinstance(value, (np.ndarray, np.floating)) and value.dtype.kind == "f"


def _terms(ufunc, method, inputs, kwargs):
    """Size of the rounding errors of adding up, in roundoffs; None where nothing is added up."""
    if ufunc is np.matmul:
        return np.matmul(np.abs(inputs[0]), np.abs(inputs[1])) * _growth(inputs[0].shape[-1])
    if ufunc is np.add and method in ("reduce", "accumulate"):
        terms = getattr(np.add, method)(np.abs(inputs[0]), *inputs[1:], **kwargs)
        return terms * _growth(np.size(inputs[0]) / max(1, np.size(terms)))
    return None


def _growth(count):
    """How errors grow with the number of terms: like its root, divided by 4 as kernels add in 16 lanes or in pairs."""
    return max(1.0, math.sqrt(count) / 4)


def _noisy_again(result, kind):
    if isinstance(result, (list, tuple)):
        return type(result)(_noisy_again(item, kind) for item in result)
    return np.asarray(result).view(kind) if is_float(result) else result


def _into(out, result):
    plain(out[0])[...] = plain(result)
    return out[0]


def row_max(array, elementwise=False):
    """Largest entry of each row (last axis), kept as an axis so that it broadcasts back."""
    return array if elementwise or np.ndim(array) == 0 else np.max(array, axis=-1, keepdims=True, initial=0.0)


def distance(result, exact):
    """|result - exact|; 0 where both are the same infinity."""
    with np.errstate(invalid="ignore"):
        return np.where(result == exact, 0.0, np.abs(result - exact))


def tolerance(spread, exact, inside, stored, lost=0.0, elementwise=False):
    """tol_row = C (E_row + u max|row| + lost_row) + tiny.

    spread: largest distance of the noisy runs from ``exact``, element by element; ``inside``: precision of the
    computation, ``stored``: of the result; ``lost``: errors that only the fast side's kernel makes (u times S).
    """
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    unit = max(inside.store, stored.store)
    rows = row_max(spread, elementwise) + unit * row_max(size, elementwise) + row_max(lost, elementwise)
    return SAFETY * rows + max(inside.tiny, stored.tiny)
