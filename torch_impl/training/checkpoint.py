"""Save a run and come back to it (the format is ``numpy_ref/checkpoint_file.py``'s)."""

import dataclasses
from pathlib import Path

import torch

from numpy_ref import checkpoint_file
from torch_impl.model.quantization import Quantized
from torch_impl.sft.lora import merge


def save(folder, run):
    """Write ``folder``/checkpoint.npz in one step. UserError when that fails or a weight is not finite."""
    run.wing = "torch"
    checkpoint_file.write(Path(folder) / checkpoint_file.NAME, *checkpoint_file.pack(run, _to_numpy))


def snapshot(run):
    """(arrays, header) of the run as it stands, copied: training may go on while they are written (`saving.py`)."""
    run.wing = "torch"
    return checkpoint_file.pack(run, _copied)


def load(folder, dtype=None, device=None, merged=True):
    """The Run in a run folder or checkpoint file, whichever wing wrote it, as tensors on ``device``.

    ``dtype`` ("float32", "float64") converts weights and optimiser state; None keeps the stored one.
    ``merged``: a run of adapters becomes a model without them; False leaves them apart, as training needs them.
    Raises UserError for a file that is missing, damaged, altered or of another config.
    """

    def tensor(value):
        value = torch.from_numpy(value)
        return value.to(device, getattr(torch, dtype) if dtype and value.is_floating_point() else value.dtype)

    run = checkpoint_file.unpack(*checkpoint_file.read(folder), tensor, Quantized)
    if not (run.frozen and merged):
        return run
    weights, lora = run.frozen
    params = merge(weights, run.params, run.model_config, lora)
    return dataclasses.replace(run, params=params, states={name: {} for name in params}, frozen=None)


def _to_numpy(value):
    return torch.as_tensor(value).detach().cpu().numpy()


def _copied(value):
    return torch.as_tensor(value).detach().to("cpu", copy=True).numpy()
