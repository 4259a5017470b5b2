"""Which device and which number format a run takes: NumPy has the CPU, and float32 or float64."""

import numpy as np

from numpy_ref.errors import UserError


def choose_device(name="auto"):
    """The device of a name: "cpu". Raises UserError for one that NumPy can't use."""
    if name not in ("auto", "cpu"):
        raise UserError(f"device {name!r} was asked for, but NumPy computes on the cpu; take that, or torch_impl")
    return "cpu"


def choose_dtype(name, device, config):
    """The ``np.dtype`` in which a model computes: the named one, float32 for "auto". UserError for 16-bit formats."""
    if name not in ("auto", "float32", "float64"):
        raise UserError(f"dtype {name!r} was asked for, but NumPy computes in float32 or float64; take --dtype float32")
    return np.dtype("float32" if name == "auto" else name)
