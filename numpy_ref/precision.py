"""Number formats that NumPy lacks: bfloat16 and two of 8 bits, as float32 numbers that are rounded where Torch stores.

Mixed precision in PyTorch means: products, sums and elementary functions are computed in float32 inside a kernel, and
what the kernel writes to memory is rounded to 16 bits. ``Rounded`` arrays do the same. An operation on them is computed
in float32 and its result rounded, and a component marked ``stored_once``, whose Torch kernel is fused, is computed in
float32 as a whole, its value and its gradients rounded at the end. So in 16 bits are stored:

    weights; the embedding of tokens and positions; what a linear map, a norm, an activation, a rotation, a dropout and
    a residual sum return; attention's scores, probabilities and results; logits, unless the loss takes them in chunks;
    and the gradient of each of these.

The loss and everything inside it, the master weights, the sum of their gradients over the micro-batches, and the
optimiser stay in float32; so does Muon's iteration, which the Torch side runs in bfloat16.
"""

import functools

import numpy as np

from numpy_ref.errors import UserError

NUMPY_ONLY = {"Rounded", "plain", "stored", "stored_like", "stored_once"}

# Bits of the fraction, exponent of the smallest normal number, largest number, and what lies beyond (arXiv:2209.05433).
_EIGHT_BITS = {"float8_e4m3fn": (3, -6, 448.0, 448.0), "float8_e5m2": (2, -14, 57344.0, np.inf)}


def round_to(x, name):
    """The nearest numbers of a format, ties to the even one: as float32, which holds them all.

    name: "float32", "bfloat16", "float16", "float8_e4m3fn" or "float8_e5m2". x: float32; all else is cast to it.
    What is too large becomes infinite; float8_e4m3fn has no infinity, there it becomes the largest number, 448.

    bfloat16 is the upper half of a float32. Adding 0x7FFF to the bits carries into it whenever the lower half is above
    one half; adding the upper half's last bit, too, sends a tie to the even side. Infinity is where a carry from the
    largest number ends.

    A format with m bits of fraction has, in the binade of x and down to the smallest normal exponent s, the spacing
    q = 2^(max(exponent(x), s) - m), and rint(x / q) q is exact but for that one rounding.
    """
    x = np.asarray(x, np.float32)
    if name == "float32":
        return x
    if name == "float16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(np.float32)
    if name == "bfloat16":
        bits = x.view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + (bits >> 16 & 1) & np.uint32(0xFFFF0000)
        return np.where(np.isnan(x), x, rounded.view(np.float32))
    if name not in _EIGHT_BITS:
        raise UserError(f"there is no number format {name!r}; take bfloat16, float16, {' or '.join(_EIGHT_BITS)}")
    fraction, smallest, largest, beyond = _EIGHT_BITS[name]
    exponent = np.frexp(x)[1] - 1
    spacing = np.ldexp(np.float32(1), np.maximum(exponent, smallest) - fraction)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.where(np.isfinite(x), np.rint(x / spacing) * spacing, x)
        return np.where(np.abs(rounded) > largest, np.copysign(np.float32(beyond), x), rounded)


class Rounded(np.ndarray):
    """float32 numbers that are stored in a smaller format: what comes of them is rounded to it."""

    format = None

    def __array_finalize__(self, other):
        self.format = getattr(other, "format", None)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        result = getattr(ufunc, method)(*_plain(inputs), **options)
        if out is None:
            return _again(result, self.format)
        out[0].view(np.ndarray)[...] = round_to(result, self.format)
        return out[0]

    def __array_function__(self, function, types, args, kwargs):
        """np.concatenate and the like move numbers about; np.sum and np.mean are ufuncs inside, and round."""
        return _again(super().__array_function__(function, types, args, kwargs), self.format)


def stored(x, name):
    """A ``Rounded`` array of x in the format of that name."""
    rounded = round_to(x, name).view(Rounded)
    rounded.format = name
    return rounded


def stored_like(values, x):
    """The values in the format in which x is stored."""
    return stored(values, x.format) if isinstance(x, Rounded) else values


def plain(x):
    """The same numbers as an ordinary array: what is computed of them stays float32."""
    return x.view(np.ndarray) if isinstance(x, Rounded) else x


def stored_once(component=None, value=True):
    """Marks a component (value, vjp) that stores only its results: on ``Rounded`` arguments it is computed in float32,
    and its gradients, and unless ``value`` is False its value, are rounded once. On other arguments nothing changes."""
    if component is None:
        return functools.partial(stored_once, value=value)

    @functools.wraps(component)
    def rounding(*args, **kwargs):
        name = next((a.format for a in (*args, *kwargs.values()) if isinstance(a, Rounded)), None)
        if name is None:
            return component(*args, **kwargs)
        y, vjp = component(*_plain(args), **_plain(kwargs))

        def rounded_vjp(*dy):
            return _again(vjp(*_plain(dy)), name)

        return (_again(y, name) if value else y), rounded_vjp

    return rounding


def _plain(tree):
    """The same as ordinary arrays."""
    if isinstance(tree, Rounded):
        return tree.view(np.ndarray)
    if isinstance(tree, (tuple, list)):
        return type(tree)(_plain(item) for item in tree)
    return {key: _plain(item) for key, item in tree.items()} if isinstance(tree, dict) else tree


def _again(tree, name):
    """``Rounded`` arrays in the place of all arrays of floating-point numbers."""
    if isinstance(tree, (tuple, list)):
        return type(tree)(_again(item, name) for item in tree)
    floats = isinstance(tree, (np.ndarray, np.floating)) and tree.dtype.kind == "f"
    return stored(tree, name) if floats and name else tree
