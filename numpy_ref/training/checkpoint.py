"""Save a run and come back to it (the format is ``checkpoint_file.py``'s)."""

from pathlib import Path

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.model.quantization import Quantized
from numpy_ref.sft.lora import merge


def save(folder, run):
    """Write ``folder``/checkpoint.npz in one step. UserError when that fails or a weight is not finite."""
    run.wing = "numpy"
    checkpoint_file.write(Path(folder) / checkpoint_file.NAME, *checkpoint_file.pack(run, np.asarray))


def snapshot(run):
    """(arrays, header) of the run as it stands, copied: training may go on while they are written (`saving.py`)."""
    run.wing = "numpy"
    return checkpoint_file.pack(run, np.array)


def load(folder, dtype=None, device=None, merged=True):
    """The Run in a run folder or checkpoint file, whichever wing wrote it; its numbers are those saved, bit for bit.

    ``dtype`` ("float32", "float64") converts weights and optimiser state; None keeps the stored one. ``device`` has
    no choice here. ``merged``: the adapters of a run that trains some are added to its weights, which then are a model
    like any other; False keeps them apart, to go on training.
    Raises UserError for a file that is missing, damaged, altered or of another config.
    """

    def array(value):
        return value.astype(dtype) if dtype and value.dtype.kind == "f" else value

    run = checkpoint_file.unpack(*checkpoint_file.read(folder), array, Quantized)
    if run.frozen and merged:
        weights, lora = run.frozen
        run.params, run.frozen = merge(weights, run.params, run.model_config, lora), None
        run.states = {name: {} for name in run.params}
    return run
