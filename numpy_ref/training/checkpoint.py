"""Save a run and come back to it (the format is ``checkpoint_file.py``'s)."""

from pathlib import Path

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.model.quantization import Quantized


def save(folder, run):
    """Write ``folder``/checkpoint.npz in one step. UserError when that fails or a weight is not finite."""
    run.wing = "numpy"
    checkpoint_file.write(Path(folder) / checkpoint_file.NAME, *checkpoint_file.pack(run, np.asarray))


def snapshot(run):
    """(arrays, header) of the run as it stands, copied: training may go on while they are written (`saving.py`)."""
    run.wing = "numpy"
    return checkpoint_file.pack(run, np.array)


def load(folder, dtype=None, device=None):
    """The Run in a run folder or checkpoint file, whichever wing wrote it; its numbers are those saved, bit for bit.

    ``dtype`` ("float32", "float64") converts weights and optimiser state; None keeps the stored one. ``device`` has
    no choice here.
    Raises UserError for a file that is missing, damaged, altered or of another config.
    """

    def array(value):
        return value.astype(dtype) if dtype and value.dtype.kind == "f" else value

    return checkpoint_file.unpack(*checkpoint_file.read(folder), array, Quantized)
