"""Which device and which number format a run takes: NumPy has the CPU, and holds numbers in float32 or float64."""

import statistics
from time import perf_counter

import numpy as np

from numpy_ref.config import DTYPES
from numpy_ref.errors import UserError


def choose_device(name="auto"):
    """The device of a name: "cpu". Raises UserError for one that NumPy can't use."""
    if name not in ("auto", "cpu"):
        raise UserError(f"device {name!r} was asked for, but NumPy computes on the cpu; take that, or torch_impl")
    return "cpu"


def choose_dtype(name, device, config):
    """The ``np.dtype`` that holds the numbers of a run: float64 for "float64", else float32.

    The 16-bit formats are float32 numbers that the training step rounds (`precision.py`).
    """
    if name not in DTYPES:
        raise UserError(f"there is no dtype {name!r}; choose one of {', '.join(DTYPES)}")
    return np.dtype("float64" if name == "float64" else "float32")


def product_speed(device, dtype, rows=2048, inputs=512, outputs=2048):
    """Floating-point operations a second of a matrix product, the median of five: what training can hope for."""
    x, weight = (np.ones(shape, dtype) for shape in ((rows, inputs), (inputs, outputs)))
    seconds = []
    for _ in range(6):
        start = perf_counter()
        x @ weight
        seconds.append(perf_counter() - start)
    return 2 * rows * inputs * outputs / statistics.median(seconds[1:])
