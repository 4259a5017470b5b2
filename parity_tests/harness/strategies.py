"""Hypothesis draws structure: sizes, magnitudes, masks, memory layouts, a seed. NumPy's Generator fills in the bulk.

Arrays drawn element by element are mostly repeated values, under which a transpose or a roll is invisible.
"""

import numpy as np
from hypothesis import strategies as st

from parity_tests.harness.declaration import Case

LAYOUTS = ("contiguous", "transposed", "sliced", "reversed", "expanded")

# Magnitude classes that every component must survive. Others are asked for by name: "huge", "above exp" (exp
# overflows), "scores" (in float16 a product of two vectors overflows before it is divided by sqrt(d), and not after).
MAGNITUDES = ("one", "tiny", "small", "sixteen", "offset", "heavy", "ties", "constant", "zero")

# Where the classes lie in a format: float16 has no 1e-20, and its squares overflow from 256 on.
SCALES = {
    "float16": {
        "tiny": 1e-4,
        "small": 1e-2,
        "sixteen": 8.0,
        "offset": 32.0,
        "heavy": 64.0,
        "huge": 2e4,
        "above exp": 50.0,
        "scores": 80.0,
    },
    "bfloat16": {
        "tiny": 1e-12,
        "small": 1e-3,
        "sixteen": 16.0,
        "offset": 64.0,
        "heavy": 1e3,
        "huge": 1e18,
        "above exp": 300.0,
        "scores": 30.0,
    },
    "float32": {
        "tiny": 1e-12,
        "small": 1e-3,
        "sixteen": 16.0,
        "offset": 1e3,
        "heavy": 1e4,
        "huge": 1e18,
        "above exp": 300.0,
        "scores": 30.0,
    },
    "float64": {
        "tiny": 1e-20,
        "small": 1e-3,
        "sixteen": 16.0,
        "offset": 1e4,
        "heavy": 1e4,
        "huge": 1e150,
        "above exp": 2e3,
        "scores": 30.0,
    },
}


def fill(rng, shape, magnitude, dtype="float64"):
    """Random float64 values of a magnitude class, for runs in ``dtype``."""
    scale = SCALES[dtype].get(magnitude, 1.0)
    normal = rng.standard_normal(shape)
    if magnitude == "zero":
        return np.zeros(shape)
    if magnitude == "ties":  # few levels: equal maxima, equal scores
        return np.round(normal)
    if magnitude == "constant":  # each row one value
        return np.broadcast_to(normal[..., :1], shape).copy() if shape else normal
    if magnitude == "offset":  # mean far above the spread
        return normal + scale * rng.choice((-1.0, 1.0))
    if magnitude == "heavy":  # one element dwarfs the rest
        values = np.array(normal)
        if values.size:
            values.flat[rng.integers(values.size)] = scale
        return values
    return normal * scale


class Drawn:
    """Choices by Hypothesis: it can shrink them, and replay them from its database."""

    def __init__(self, draw):
        self.draw = draw

    def choice(self, options):
        return self.draw(st.sampled_from(options))

    def integer(self, low, high):
        return self.draw(st.integers(low, high))


class Uniform:
    """Choices by a generator. Hypothesis likes to repeat itself: in 25 examples it may skip half of the options."""

    def __init__(self, rng):
        self.rng = rng

    def choice(self, options):
        return options[self.rng.integers(len(options))]

    def integer(self, low, high):
        return low + int.from_bytes(self.rng.bytes(16), "little") % (high - low + 1)  # any size, unlike rng.integers


class Source:
    """What a declaration draws from. Everything special that it draws becomes an event of the case."""

    def __init__(self, choices, dtype="float64"):
        self.choices = choices
        self.dtype = dtype
        self.seed = choices.integer(0, 2**32 - 1)
        self.rng = np.random.default_rng(self.seed)
        self.events = set()
        self.layouts = {}

    def event(self, name, happens=True):
        if happens:
            self.events.add(name)

    def choice(self, *options):
        return self.choices.choice(options)

    def flag(self):
        return self.choice(False, True)

    def integer(self, low, high):
        return self.choices.integer(low, high)

    def size(self, most=40, block=16, least=1):
        """A dimension: 1, 2, small, prime, or around a tile of the implementation."""
        special = {1, 2, block - 1, block, block + 1, 11, 13, 17, 31, 37, most}
        special = sorted(n for n in special if least <= n <= most)
        return self.choice(*special) if self.flag() else self.integer(least, max(least, min(9, most)))

    def leading(self, most=2):
        """Zero to ``most`` batch axes."""
        return tuple(self.integer(1, 3) for _ in range(self.integer(0, most)))

    def array(self, name, shape, magnitudes=MAGNITUDES, layouts=LAYOUTS):
        """A float array for the argument ``name``."""
        magnitude, layout = self.choice(*magnitudes), self.choice(*layouts)
        values = fill(self.rng, shape, magnitude, self.dtype)
        if layout == "expanded":  # stride 0 along the first axis: all its entries are the same
            values = np.broadcast_to(values[:1], shape).copy() if shape else values
        self.event("expanded", layout == "expanded" and values.shape[:1] > (1,))
        self.event(magnitude)
        self.layouts[name] = layout
        return values

    def weight(self, name, shape, layouts=LAYOUTS[:4]):
        """A random weight: never ones, never zeros."""
        return self.array(name, shape, ("one", "small", "sixteen"), layouts)

    def tokens(self, shape, vocabulary):
        """Ids that include the first and the last token, and repetitions."""
        ids = self.rng.integers(0, vocabulary, shape)
        if ids.size:
            ids.flat[self.rng.integers(ids.size)] = self.choice(0, vocabulary - 1)
        self.event("repeated token", len(np.unique(ids)) < ids.size)
        self.event("last token", bool((ids == vocabulary - 1).any()))
        return ids

    def case(self, arrays, **static):
        magnitude = self.choice("one", "one", "small", "sixteen", "heavy")
        layout = self.choice(*LAYOUTS[:4])
        self.event("strided", any(layout not in ("contiguous", "expanded") for layout in self.layouts.values()))
        return Case(arrays, static, frozenset(self.events), dict(self.layouts), self.seed, magnitude, layout)


# -- attention masks ----------------------------------------------------------------------------------------------

MASKS = ("none", "full", "random", "empty row", "left padding", "right padding", "packed", "window 1", "window T")


def attention_mask(rng, kind, batch, queries, keys):
    """A bool mask (batch, 1, queries, keys), True where a query may attend; None for "none"."""
    shape = (batch, 1, queries, keys)
    row, column = np.arange(queries)[:, None] + keys - queries, np.arange(keys)
    if kind == "none":
        return None
    if kind == "random":
        return rng.random(shape) < 0.6
    if kind == "empty row":
        mask = rng.random(shape) < 0.8
        mask[:, :, rng.integers(queries)] = False
        return mask
    if kind in ("left padding", "right padding"):
        length = rng.integers(1, keys + 1, (batch, 1, 1, 1))
        seen = column < length if kind == "right padding" else column >= keys - length
        return np.broadcast_to(seen, shape).copy()
    if kind == "packed":  # documents side by side, each blind to the others
        document = np.sort(rng.integers(0, 3, max(queries, keys)))
        same = document[-queries:][:, None] == document[-keys:]
        return np.broadcast_to(same, shape).copy()
    if kind == "window 1":
        return np.broadcast_to(row == column, shape).copy()
    if kind == "window T":
        return np.broadcast_to(np.abs(row - column) < max(queries, keys), shape).copy()
    return np.ones(shape, bool)


# -- memory layouts -----------------------------------------------------------------------------------------------


def laid_out(array, layout):
    """The same values in another memory layout; gaps hold NaN (or the smallest integer), which nobody may read."""
    if array.ndim == 0 or array.size == 0 or layout == "contiguous":
        return array.copy(order="C")
    if layout == "transposed":
        return np.ascontiguousarray(array.T).T
    if layout == "reversed":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    if layout == "expanded" and (array == array[:1]).all():
        return np.broadcast_to(array[:1], array.shape)
    poison = np.nan if array.dtype.kind == "f" else False if array.dtype.kind == "b" else np.iinfo(array.dtype).min
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), poison, array.dtype)
    wide[..., 1::2] = array
    return wide[..., 1::2]


def tensor_laid_out(tensor, layout):
    """The same for a tensor. Torch has no negative strides: "reversed" becomes a slice with an offset."""
    if tensor.ndim == 0 or tensor.numel() == 0 or layout == "contiguous":
        return tensor.contiguous()
    if layout == "transposed":
        order = tuple(reversed(range(tensor.ndim)))
        return tensor.permute(order).contiguous().permute(order)
    if layout == "expanded" and bool((tensor == tensor[:1]).all()):
        return tensor[:1].expand(tensor.shape)
    poison = float("nan") if tensor.is_floating_point() else 0
    wide = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), poison)
    step = 1 if layout == "reversed" else 2
    view = wide[..., 1 : 1 + step * tensor.shape[-1] : step]
    view.copy_(tensor)
    return view
