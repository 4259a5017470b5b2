"""The checkpoint: one ``checkpoint.npz`` that both wings write and read, with no pickle in it.

    header                        JSON as bytes: format, configs, step, data position, ..., sha256
    model/<parameter>             the weights, named as in ``config.parameter_shapes``
    optimizer/<parameter>/<field> what the optimiser remembers about a parameter (m, v, step or momentum)

The order of the data, dropout and sampling are functions of seed and position (``rng.py``), so the random state of a
run is its seed and the numbers in the header.
"""

import dataclasses
import hashlib
import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numpy_ref.config import ModelConfig, TrainConfig, from_json, parameter_shapes
from numpy_ref.errors import UserError
from numpy_ref.files import replace

DEFINITION = "a file format: arrays pass through it unchanged"

FORMAT = 1
NAME = "checkpoint.npz"
COUNTS = ("step", "position", "tokens", "seconds", "wing")
# Everything that reading a damaged archive was seen to raise.
DAMAGE = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError,
          RuntimeError, MemoryError, OverflowError, SyntaxError, TypeError)


@dataclass
class Run:
    """A training run between two steps: all that is needed to go on as if nothing had happened.

    ``params`` name -> array and ``states`` name -> {field: array} are in the arrays of the wing that trains.
    ``step`` counts finished optimiser steps, ``position`` the sequences drawn from the data, ``tokens`` the tokens
    trained on, ``seconds`` the time spent. A float16 run keeps its loss scale as ``states["loss_scale"]``.
    """

    model_config: ModelConfig
    train_config: TrainConfig
    params: dict
    states: dict
    step: int = 0
    position: int = 0
    tokens: int = 0
    seconds: float = 0.0
    wing: str = "numpy"

    def advance(self, batch, tokens):
        """Count one finished step over ``batch`` sequences with ``tokens`` tokens in all."""
        self.step += 1
        self.position += batch
        self.tokens += tokens


def pack(run, to_numpy):
    """(arrays, header) of a Run; ``to_numpy`` turns the wing's arrays, and Python's numbers, into NumPy arrays."""
    arrays = {f"model/{name}": to_numpy(value) for name, value in run.params.items()}
    for name in run.params:
        arrays |= {f"optimizer/{name}/{field}": to_numpy(value) for field, value in run.states[name].items()}
    header = {"model": dataclasses.asdict(run.model_config), "train": dataclasses.asdict(run.train_config)}
    header["loss_scale"] = run.states.get("loss_scale")
    return arrays, header | {name: getattr(run, name) for name in COUNTS}


def unpack(arrays, header, from_numpy):
    """The Run of (arrays, header) as ``read`` returns them; ``from_numpy`` makes the wing's arrays of NumPy's.

    A number that stands alone, like AdamW's step, becomes Python's.
    """
    model, train = configs(header)
    names = parameter_shapes(model)
    params = {name: from_numpy(arrays[f"model/{name}"]) for name in names}
    states = {name: {} for name in names}
    for key, value in arrays.items():
        if key.startswith("optimizer/"):
            _, name, field = key.split("/")
            states[name][field] = from_numpy(value) if value.ndim else value.item()
    if header["loss_scale"]:
        states["loss_scale"] = dict(header["loss_scale"])
    return Run(model, train, params, states, **{name: header[name] for name in COUNTS})


def configs(header):
    """(ModelConfig, TrainConfig) of a header."""
    return from_json(ModelConfig, json.dumps(header["model"])), from_json(TrainConfig, json.dumps(header["train"]))


def check_resumable(run, model_config, train_config, folder):
    """Raise UserError unless the Run loaded from ``folder`` can go on with these settings."""
    if run.model_config != model_config:
        raise UserError(f"the checkpoint in {folder} is of another model; resume with the config.json beside it")
    if run.train_config.optimizer != train_config.optimizer:
        had = run.train_config.optimizer
        raise UserError(f"the run in {folder} trains with {had}; another optimiser has no use for its state")
    if not all(run.states[name] for name in run.params):
        raise UserError(f"the checkpoint in {folder} has no optimiser state: it can generate, but not go on training")


def locate(path):
    """The checkpoint file of a run folder or of a path to the file itself. Raises UserError when there is none."""
    path = Path(path)
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"there is no checkpoint at {file}; give a run folder that holds one, or train")
    return file


def write(path, arrays, header):
    """Write the checkpoint file ``path`` in one step (see ``files.replace``).

    Raises UserError when a floating-point array holds NaN or infinity (a checkpoint is a place to return to) and when
    the file can't be written; the file that was there before stays as it was.
    """
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise UserError(f"{name} is not finite any more: not saved; {path} keeps the last good step, if any")
    header = {"format": FORMAT, **header}
    header["sha256"] = _checksum(arrays, header)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    replace(path, lambda file: np.savez(file, header=text, **arrays))


def read(path):
    """(arrays, header) of a checkpoint file or run folder, checked from end to end.

    Raises UserError when it is missing, not a checkpoint, truncated, altered, of another format version, or when its
    arrays are not those of its own config.
    """
    path = locate(path)
    try:
        members = _members(path)
        header = json.loads(members.pop("header").tobytes())
        given = header.pop("sha256")
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(_diagnosis(path, error)) from None
    if header.get("format") != FORMAT:
        raise UserError(f"{path} has checkpoint format {header.get('format')!r}; this version reads format {FORMAT}")
    if given != _checksum(members, header):
        raise UserError(f"{path} was altered: its checksum differs; take another copy or train again")
    _check(path, members, header)
    return members, header


def _members(path):
    """Every array of the archive, read with pickles refused."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                raise ValueError(f"unexpected member {info.filename}")
            with archive.open(info) as file:
                arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _checksum(arrays, header):
    """SHA-256 over the header and the name, dtype, shape and bytes of every array."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _diagnosis(path, error):
    """One line on why an archive can't be read."""
    if isinstance(error, PermissionError):
        return f"cannot read {path}: {error.strerror}"
    if "Object arrays" in str(error):
        return f"{path} holds pickled Python objects, which could run code; only plain arrays are read"
    with open(path, "rb") as file:
        start = file.read(4)
    if start == b"":
        return f"{path} is empty; take another copy of the checkpoint or train again"
    if start[:2] == b"PK":
        return f"{path} is truncated or damaged; take another copy of the checkpoint or train again"
    return f"{path} is not a checkpoint; give a run folder or the {NAME} inside it"


def _check(path, arrays, header):
    """Raise UserError unless header and arrays are what the header's own config says."""
    try:
        model, _ = configs(header)
        numbers = [header[name] for name in ("step", "position", "tokens")]
        fine = all(type(number) is int and number >= 0 for number in numbers) and math.isfinite(header["seconds"])
        fine = fine and isinstance(header["loss_scale"], dict | None) and isinstance(header["wing"], str)
    except (KeyError, TypeError):
        fine = False
    if not fine:
        raise UserError(f"{path} is not a checkpoint: its header lacks a setting; give a run folder or its {NAME}")
    shapes = parameter_shapes(model)
    wrong = [name for name in shapes if f"model/{name}" not in arrays]
    for key, value in arrays.items():
        part, _, rest = key.partition("/")
        name, _, field = rest.partition("/")
        known = name in shapes and (part == "optimizer" if field else part == "model")
        if not known or value.shape not in ((shapes[name], ()) if field else (shapes[name],)):
            wrong.append(key)
    if wrong:
        raise UserError(f"{path} is of another config: {wrong[0]} does not fit the model that its header describes")


def describe(folder, model_config, train_config):
    """Write ``folder``/config.json: the settings of a run for people and scripts (the checkpoint carries its own)."""
    settings = {"model": dataclasses.asdict(model_config), "train": dataclasses.asdict(train_config)}
    text = json.dumps(settings, indent=2) + "\n"
    replace(Path(folder) / "config.json", lambda file: file.write(text.encode()))
